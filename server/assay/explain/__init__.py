"""Why scores of the past are what they are: from their records in the audit log, or from the rows there. Knows no gRPC."""
