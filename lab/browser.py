"""Chromium without a screen, driven over its own protocol through two pipes: no driver, no port, no package.

    with Browser(command, home) as browser:
        page = browser.open("http://127.0.0.1:8080/")
        page.fill("input[name=email]", "ana@example.com")
        page.click("button[value=sign-in]")
        page.until("document.querySelector('main') !== null")
        page.picture(pathlib.Path("page.png"))

What is typed and clicked are events as a person makes them, so what is covered or disabled is not reached.
"""

import base64
import json
import os
import select
import subprocess
import time


class Browser:
    """One browser, with a profile of its own in `home`; `words` makes the command of whoever runs it."""

    def __init__(self, words, home):
        self.number, self.pages = 0, {}
        commands, self.to = os.pipe()
        self.back, answers = os.pipe()
        self.unread = b""
        # The protocol's pipes are 3 and 4. Its sandbox wants namespaces that a container may not give.
        script = 'exec chromium "$@" 3<&%d 4>&%d' % (commands, answers)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={home}"]
        self.process = subprocess.Popen(words("bash", "-c", script, "chromium", *options, "about:blank"),
                                        pass_fds=(commands, answers), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            self.process.kill()
        self.process.wait()

    def open(self, url):
        """A new window."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True, width=1000, height=720)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.call("Page.enable")
        page.call("Page.navigate", url=url)
        return page

    def call(self, method, session=None, patience=120, **params):
        """Asks, and waits for the answer to that; what the browser tells besides is not looked at."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": params}
        if session:
            asked["sessionId"] = session
        os.write(self.to, json.dumps(asked).encode() + b"\0")
        end = time.monotonic() + patience
        while (answer := self.next(end)).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def next(self, end):
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.back], [], [], max(0, end - time.monotonic()))
            read = os.read(self.back, 1 << 20) if ready else b""
            if not read:
                raise RuntimeError("the browser does not answer")
            self.unread += read
        text, self.unread = self.unread.split(b"\0", 1)
        return json.loads(text)


class Page:
    """One window."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def value(self, expression):
        """What a script gives there."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{expression}: {done['exceptionDetails']['text']}")
        return done["result"].get("value")

    def until(self, expression, patience=60):
        """Waits until the script gives something; gives that, and the seconds it took."""
        began = time.monotonic()
        while time.monotonic() < began + patience:
            try:
                if found := self.value(expression):
                    return found, time.monotonic() - began
            except RuntimeError:
                pass  # The page is being changed for another one.
            time.sleep(0.02)
        raise RuntimeError(f"did not happen within {patience} s: {expression}\nthe page: {self.text()}")

    def text(self):
        return self.value("document.body.innerText")

    def click(self, selector):
        """With the mouse, in its middle."""
        found = json.dumps(selector)
        place, _ = self.until(f"""(() => {{
            const found = document.querySelector({found});
            if (!found || found.disabled) return;
            found.scrollIntoView({{ block: "center" }});
            const {{ x, y, width, height }} = found.getBoundingClientRect();
            return [x + width / 2, y + height / 2];
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def fill(self, selector, text):
        self.click(selector)
        self.call("Input.insertText", text=text)

    def picture(self, path):
        """What it looks like, as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
