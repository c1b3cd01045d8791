"""A server of encoder models: many clients, one engine, nothing that brings it down."""
