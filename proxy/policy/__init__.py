"""What a principal may do: permissions on classes, decided by OpenFGA or the embedded evaluator."""
