"""Where runs are recorded: MLflow with a spool on the disk, TensorBoard, several at once, or nowhere."""
