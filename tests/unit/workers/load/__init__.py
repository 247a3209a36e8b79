"""The load harness, without Kafka."""
