"""A visitor of the app who clicks at random, and notes what goes wrong."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

KINDS = {  # what is clicked, and how often it is tried
    "page": (".stApp [data-testid=stTopNavLink]", 2),
    "pill": ("[data-testid=stPills] button, [data-testid=stSegmentedControl] button, [data-testid=stButtonGroup] button", 4),
    "button": ("[data-testid=stButton] button", 4),
    "Stop": ("[class*=st-key-stop] button", 3),
    "picker": ("[data-testid=stSelectbox] input, [data-testid=stMultiSelect] input", 3),
    "option": ("[role=option]", 1),
    "switch": ("[data-testid=stCheckbox] label, [data-testid=stToggle] label, [data-testid=stRadio] label", 2),
    "section": ("[data-testid=stExpander] summary", 2),
}
ERRORS = "[data-testid=stException], [data-testid=stAlertContentError]"
CLICK_MILLISECONDS = 1500
LIST_MILLISECONDS = 300  # until a picker's list has opened


class Visitor:
    """One tab. ``problems``: error boxes and errors of the console, ``clicked``: the kinds of what was clicked, by count."""

    def __init__(self, browser: Any, address: str, chance: random.Random) -> None:
        self.chance, self.address = chance, address
        self.clicks = 0
        self.clicked: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self._shown: set[str] = set()
        self.page = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True).new_page()
        self.page.on("pageerror", lambda error: self._note("page", str(error)))
        self.page.on("console", self._console)
        self.page.goto(address, wait_until="commit")

    def act(self) -> None:
        """Wait for up to a second, look for error boxes, and click on something."""
        from playwright.sync_api import Error

        self.page.wait_for_timeout(self.chance.uniform(100, 1000))
        try:
            self._look()
            names = list(KINDS)
            self._click(self.chance.choices(names, [weight for _, weight in KINDS.values()])[0])
        except Error as error:  # what was to be clicked has gone meanwhile, or something covers it
            self.clicked["missed: " + str(error).split("\n")[0][:60]] += 1
            self.page.keyboard.press("Escape")

    def _click(self, name: str) -> None:
        places = self.page.locator(KINDS[name][0]).locator("visible=true")
        count = places.count()
        if count:
            places.nth(self.chance.randrange(count)).click(timeout=CLICK_MILLISECONDS)
            self.clicks += 1
            self.clicked[name] += 1
            if name == "picker":  # its list closes with the next click elsewhere
                self.page.wait_for_timeout(LIST_MILLISECONDS)
                self._click("option")

    def _look(self) -> None:
        shown = {text.strip() for text in self.page.locator(ERRORS).all_inner_texts()}
        for text in shown - self._shown:  # a box that stays is one problem
            self._note("box", text)
        self._shown = shown

    def _console(self, message: Any) -> None:
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            self._note("console", message.text)

    def _note(self, where: str, text: str) -> None:
        self.problems[f"{where}: {text[:300]}"] += 1
