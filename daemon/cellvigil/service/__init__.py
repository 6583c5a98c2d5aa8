"""The service: what is opened once, the threads that frames pass through, and when it starts and ends."""
