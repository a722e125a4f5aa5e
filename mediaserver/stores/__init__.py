"""Redis and SQL: connections, the embedded Valkey server, migrations. Nothing of what they hold."""
