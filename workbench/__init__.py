"""The app's side of the workbench: starting work, reading runs, drawing. It never imports torch."""
