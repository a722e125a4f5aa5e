"""What alembic runs: the steps, on the connection that `Database.migrate` gives.

Without one (the ``alembic`` command of a developer) there is nothing to do here.
"""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
with context.begin_transaction():
    context.run_migrations()
