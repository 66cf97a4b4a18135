"""The ngrok tunnel to a registry of ours: agent, edge, errors. Nothing else imports pyngrok."""

from typing import TYPE_CHECKING

from layerferry import lazy

if TYPE_CHECKING:
    from layerferry.routes.ngrok.agent import find_agent
    from layerferry.routes.ngrok.edge_check import edge_trouble
    from layerferry.routes.ngrok.tunnel import Tunnel, agent_path, open_tunnel
else:
    __getattr__ = lazy.attributes(
        __name__,
        {
            "find_agent": "agent",
            "edge_trouble": "edge_check",
            "Tunnel": "tunnel",
            "agent_path": "tunnel",
            "open_tunnel": "tunnel",
        },
    )

__all__ = ["Tunnel", "agent_path", "edge_trouble", "find_agent", "open_tunnel"]
