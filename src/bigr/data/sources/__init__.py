"""Where encoded images lie: folders, tars, parquet; found by looking."""
