"""What a caller asks for, one file per task: texts in, results out in input order."""
