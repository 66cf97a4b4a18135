"""The ngrok tunnel to a registry of ours: agent, edge, errors. Nothing else imports pyngrok."""
