"""The engines: they decide where and how runs are carried out, not what is measured."""
