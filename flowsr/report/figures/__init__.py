"""The figures, one file for each kind: functions from results to matplotlib figures."""
