"""What the browser's scripts show of workers: problems and possible actions, but no secrets."""

from __future__ import annotations

import json

import pytest

from browser_modules import play

PASSWORD = "s3cret"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (f"wss://user:{PASSWORD}@host:7867/ws", "wss://***@host:7867/ws"),
        (f"user:{PASSWORD}@host", "***@host"),
        (f"https://{PASSWORD}@host", "https://***@host"),
        (f"wss://:{PASSWORD}@host", "wss://***@host"),
        (f"ws://user:a@{PASSWORD}@host", "ws://***@host"),
        (f"ws://user:{PASSWORD}@[::1]:7867", "ws://***@[::1]:7867"),
        (f"No worker answers at `ws://u:{PASSWORD}@h`.", "No worker answers at `ws://***@h`."),
        (f"“wss://u:{PASSWORD}@h”没有应答", "“wss://***@h”没有应答"),
        ("wss://***@host:7867", "wss://***@host:7867"),
        ("ws://127.0.0.1:7867", "ws://127.0.0.1:7867"),
        ("wss://host/some@path", "wss://host/some@path"),
        ("Write to me@example.org", "Write to me@example.org"),
    ],
)
def test_user_and_password_of_an_address_are_hidden(told, shown):
    hidden = play("return (await load('ask.js')).hidingPasswords(told.text);", text=told)
    assert hidden == shown


# A server for the scripts: it answers with `server.list` and `server.statuses`; `asked` records
# what was posted, and `seen(element)` returns all that an element shows.
PAGE = """
    const asked = [];
    const all = ["url", "token", "binary", "model", "fingerprint", "vram"];
    const server = { fields: all, mayAct: true, list: [], statuses: {}, ...told.server };
    globalThis.ovisAnswer = async (path, { method, body } = {}) => {
      const [, , , label, action] = path.split("/");
      if (method === "POST") {
        asked.push([decodeURIComponent(label ?? ""), action]);
        await server.posted?.(action);
      }
      let answer = action === "status" ? server.statuses[label]
        : label ? {} : {
          workers: server.list, fields: server.fields, may_edit: server.fields.length > 0,
          may_act: server.mayAct,
        };
      const wrong = answer?.status;
      if (wrong) answer = answer.body;
      return { ok: !wrong, text: async () => JSON.stringify(answer ?? {}) };
    };
    const seen = (one) => typeof one === "string" ? [one] : [
      one.textContent, one.value, one.placeholder, one.title, ...one.children.flatMap(seen),
    ].filter(Boolean);
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const buttons = (one) => typeof one === "string" ? []
      : [one, ...one.children.flatMap(buttons)].filter((part) => part.tag === "button");
    const press = (place, words) =>
      buttons(place).find((one) => one.textContent === words).dispatchEvent(new Event("click"));
    let tab;
    app.extensionManager = { registerSidebarTab: (made) => { tab = made; } };
    for (const one of extensions) if (one.name === "ovis-worker.sidebar") one.setup();
    const sidebar = async () => {
      const place = document.createElement("div");
      tab.render(Object.assign(place, { isConnected: true }));
      await wait(30);
      return place;
    };
    const settings = async () => {
      const [editor] = extensions.flatMap((one) => one.settings ?? []);
      const made = editor.type();
      await wait(30);
      return made;
    };
"""
RUNNING = {"state": "connected", "model": "m", "queued": 0, "running": 0}


def entry(label: str = "local", **more: object) -> dict:
    kept = {"url": "", "binary": "", "model": ""}
    told = {"label": label, "address": "127.0.0.1:7867", "here": True, "described": True}
    return told | {"settings": kept, "has_token": False, "overridden": []} | more


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_no_password_of_an_address_is_shown_wherever_the_server_names_it(locale):
    address = f"wss://user:{PASSWORD}@host:7867"
    wrong = f"`{address}` is not a worker's address."
    listed = [
        entry("a", address=address, settings={"url": address, "binary": "", "model": ""}),
        entry("b", address=address, problem=wrong),
        entry("c", problem=wrong),
        entry("d"),
    ]
    statuses = {
        "a": {"state": "away", "problem": f"No worker answers at {address}", "model": address},
        "d": {"status": 400, "body": {"error": wrong, "hint": address}},
    }
    seen = play(
        PAGE + "return [seen(await sidebar()), seen(await settings())];",
        locale=locale,
        server={"list": listed, "statuses": statuses},
    )
    assert PASSWORD not in json.dumps(seen) and "user:" not in json.dumps(seen)
    sidebar, settings = map("\n".join, seen)
    assert "wss://***@host:7867" in sidebar and "wss://***@host:7867" in settings


@pytest.mark.parametrize(("locale", "word"), [("en", "wrong settings"), ("zh", "设置有误")])
def test_a_bad_entry_is_shown_as_bad_beside_the_others(locale, word):
    listed = [entry(), entry("odd", problem="The port 99999 is none.")]
    server = {"list": listed, "statuses": {"local": RUNNING}}
    sidebar, settings = play(
        PAGE + "return [seen(await sidebar()), seen(await settings())];",
        locale=locale,
        server=server,
    )
    assert word in sidebar and "The port 99999 is none." in sidebar
    assert {"local", "odd"} <= set(sidebar) and {"local", "odd"} <= set(settings)
    assert "The port 99999 is none." in settings


@pytest.mark.parametrize(
    ("locale", "restart", "says"),
    [("en", "Restart", "still runs with its previous settings"), ("zh", "重启", "之前的设置运行")],
)
def test_a_worker_with_earlier_settings_says_so_and_is_restarted(locale, restart, says):
    status = RUNNING | {"restart_needed": True, "can_stop": True}
    seen = play(
        PAGE
        + """
        // Stopping takes a moment.
        server.posted = async (action) => {
          if (action !== "stop") return;
          setTimeout(() => { server.statuses.local = { state: "away", can_start: true }; }, 700);
        };
        const place = await sidebar();
        const before = seen(place);
        press(place, told.restart);
        await wait(1800);
        return { before, asked, after: seen(place) };
        """,
        locale=locale,
        restart=restart,
        server={"list": [entry()], "statuses": {"local": status}},
    )
    assert any(says in words for words in seen["before"]) and restart in seen["before"]
    assert seen["asked"] == [["local", "stop"], ["local", "start"]]
    assert not any(says in words for words in seen["after"]) and restart not in seen["after"]


@pytest.mark.parametrize(
    ("locale", "save", "restart", "says", "done"),
    [
        ("en", "Save", "Restart", "still runs with its previous settings", "Restarted with"),
        ("zh", "保存", "重启", "之前的设置运行", "已用新设置重启"),
    ],
)
def test_saving_what_needs_a_restart_says_so_and_offers_it(locale, save, restart, says, done):
    status = RUNNING | {"restart_needed": True, "can_stop": True}
    seen = play(
        PAGE
        + """
        const outdated = server.statuses.local;
        server.statuses.local = { ...outdated, restart_needed: false };
        server.posted = async (action) => {
          if (action === "save") server.statuses.local = outdated;
          if (action === "stop") server.statuses.local = { state: "away", can_start: true };
        };
        const page = await settings();
        const before = seen(page);
        press(page, told.save);
        await wait(50);
        const saved = seen(page);
        press(page, told.restart);
        await wait(100);
        return { before, saved, asked, after: seen(page) };
        """,
        locale=locale,
        save=save,
        restart=restart,
        server={"list": [entry()], "statuses": {"local": status}},
    )
    assert restart not in seen["before"]
    assert any(says in words for words in seen["saved"]) and restart in seen["saved"]
    assert seen["asked"] == [["local", "save"], ["local", "stop"], ["local", "start"]]
    assert any(done in words for words in seen["after"]) and restart not in seen["after"]


@pytest.mark.parametrize(
    ("more", "offered", "elsewhere"),
    [
        ({"restart_needed": True, "can_stop": True}, True, False),
        # Started elsewhere: the page says so, and where to stop it.
        ({"restart_needed": True, "can_stop": False}, False, True),
        ({"can_stop": True}, False, False),
    ],
)
def test_a_restart_is_offered_only_where_it_is_needed_and_possible(more, offered, elsewhere):
    server = {"list": [entry()], "statuses": {"local": RUNNING | more}}
    story = "const p = await settings(); press(p, 'Save'); await wait(50); return seen(p);"
    seen = play(PAGE + story, locale="en", server=server)
    assert any(words.startswith("Saved.") for words in seen)
    assert ("Restart" in seen) is offered
    assert any("where it was started" in words for words in seen) is elsewhere


@pytest.mark.parametrize(
    ("locale", "start", "says"),
    [
        ("en", "Start", "only in a browser on the machine that ComfyUI runs on"),
        ("zh", "启动", "只能在运行 ComfyUI 的机器上的浏览器里启动和停止"),
    ],
)
@pytest.mark.parametrize("may_edit", [True, False])
def test_another_machines_browser_is_told_where_workers_are_started(locale, start, says, may_edit):
    listed = [entry(), entry("far", here=False, address="gpu:7867")]
    away = {"state": "away", "can_start": may_edit}
    server = {"list": listed, "statuses": {"local": away, "far": {"state": "away"}}}
    seen = play(
        PAGE + "return seen(await sidebar());",
        locale=locale,
        server=server | {"mayAct": may_edit},
    )
    # Only for the worker on ComfyUI's machine; the other cannot be started from here.
    assert sum(says in words for words in seen) == (0 if may_edit else 1)
    assert (start in seen) is may_edit
