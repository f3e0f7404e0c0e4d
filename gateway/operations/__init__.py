"""What an operator looks at: health, figures of the database, the doctor's checks."""
