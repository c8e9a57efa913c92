"""Fine-tune vision-language models into assessors with typed, checkable answers."""
