"""The engines: where and how runs are carried out, never what they measure."""
