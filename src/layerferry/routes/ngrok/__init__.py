"""The ngrok tunnel to a registry of ours: agent, edge, errors. Nothing else imports pyngrok."""

from typing import TYPE_CHECKING

from layerferry import lazy

if TYPE_CHECKING:
    from layerferry.routes.ngrok.agent import find_agent
    from layerferry.routes.ngrok.tunnel import open_tunnel
else:
    __getattr__ = lazy.attributes(__name__, {"find_agent": "agent", "open_tunnel": "tunnel"})

__all__ = ["find_agent", "open_tunnel"]
