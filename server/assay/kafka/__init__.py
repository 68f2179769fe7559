"""Events from Kafka into a store: a consumer group, what it holds, what it commits, where rejects go."""
