"""What the papers print: tables, recipes and rules for hyper-parameters. No torch here."""
