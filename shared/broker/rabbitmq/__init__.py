"""The broker on RabbitMQ. The only place that knows pika."""

from echelon.shared.broker.rabbitmq.broker import RabbitBroker, RabbitOptions

__all__ = ["RabbitBroker", "RabbitOptions"]
