"""Whether this machine can do the job: packages, devices, the ways of `mlflow run`, and the tracking store."""
