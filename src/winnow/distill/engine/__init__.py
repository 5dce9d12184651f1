"""What distillation and the ranking of distilled sets share."""
