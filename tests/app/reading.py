"""What the app tests read from a page: its figure, its maps, its complaints."""

from __future__ import annotations

import json
from typing import Any

from streamlit.testing.v1 import AppTest

CHEAP = ["Grad-CAM", "Gradient", "Guided Backpropagation"]


def figure(app: AppTest) -> dict[str, Any]:
    """The spec of the one figure with the maps."""
    charts = app.get("plotly_chart")
    assert len(charts) == 1
    return json.loads(charts[0].proto.spec)


def maps(app: AppTest) -> list[dict[str, Any]]:
    """The maps in the figure."""
    return [trace for trace in figure(app)["data"] if trace["type"] == "heatmap"]


def words(app: AppTest) -> str:
    """All words of the figure."""
    return " ".join(note["text"] for note in figure(app)["layout"]["annotations"])


def complaints(app: AppTest) -> list[str]:
    """The lines in red."""
    return [element.value for element in app.error]


def page_html(app: AppTest) -> str:
    """What the page says through HTML: headings, predictions, cards."""
    return " ".join(element.proto.body for element in app.get("html"))


def chosen_picture(app: AppTest) -> str:
    """The picture that the URL names."""
    named = app.query_params.get("picture", "")
    return named if isinstance(named, str) else named[-1]


def explained(app: AppTest) -> AppTest:
    """The page with all maps: Explain is pressed, if something waits for it."""
    button = next((button for button in app.button if button.key == "explain"), None)
    return button.click().run() if button else app
