"""Sources of encoded images: folders, tar files and parquet files."""
