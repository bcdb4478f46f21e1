"""Where results stand: run folders, measurements, tables; written atomically, sealed, and locked while in use."""
