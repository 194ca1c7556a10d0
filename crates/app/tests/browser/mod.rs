//! Drives Chromium over the DevTools protocol through its debugging pipe: JSON messages that end with a zero byte on
//! two inherited descriptors. No WebSocket, no driver program, no port that others could use.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Patience with a browser on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next_id: u64,
    session: Option<String>,
    /// Everything the page told by itself.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// Where Chromium is. `None`: not installed, which is said; with `CI=true` that is a failure.
pub(crate) fn installed() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|p| p.is_file());
    if found.is_none() {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI must have Chromium: install the package `chromium`"
        );
        println!("SKIPPED: no Chromium found in PATH (looked for {})", names.join(", "));
    }
    found
}

impl Browser {
    pub(crate) async fn start(program: PathBuf) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The browser reads commands from descriptor 3 and answers on 4; the shell puts our pipes there.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut browser =
            Self { child, to, from, next_id: 0, session: None, events: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    pub(crate) async fn stop(mut self) {
        // It may close its pipe before it answers.
        let _ = self.send("Browser.close", json!({})).await;
        let _ = timeout(PATIENCE, self.child.wait()).await;
    }

    async fn send(&mut self, method: &str, params: Value) -> std::io::Result<u64> {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to.write_all(&bytes).await?;
        Ok(self.next_id)
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params).await.unwrap();
        let answer = async {
            loop {
                let mut bytes = Vec::new();
                let n = self.from.read_until(0, &mut bytes).await.unwrap();
                assert_ne!(n, 0, "the browser is gone");
                bytes.pop();
                let message: Value = serde_json::from_slice(&bytes).unwrap();
                if message["id"] == json!(id) {
                    return message;
                }
                self.events.push(message);
            }
        };
        let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{method}: no answer"));
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, as the system would say.
    pub(crate) async fn scheme(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// The whole page as a PNG.
    pub(crate) async fn screenshot(&mut self, path: &std::path::Path) {
        self.call("Emulation.setScrollbarsHidden", json!({"hidden": true})).await;
        let options = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.call("Page.captureScreenshot", options).await;
        let text = answer["data"].as_str().unwrap_or_default().as_bytes();
        let digit = |c: u8| match c {
            b'A'..=b'Z' => u32::from(c - b'A'),
            b'a'..=b'z' => u32::from(c - b'a') + 26,
            b'0'..=b'9' => u32::from(c - b'0') + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
        for four in text.chunks(4) {
            let known = four.iter().filter(|c| **c != b'=').count();
            let bits = four.iter().take(known).fold(0, |bits, c| bits << 6 | digit(*c)) << (6 * (4 - known));
            bytes.extend(bits.to_be_bytes()[1..].iter().take(known * 6 / 8));
        }
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.wait_for("document.readyState === 'complete'").await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page. One that throws, as for an element that is not there yet, is not
    /// true yet.
    pub(crate) async fn wait_for(&mut self, condition: &str) {
        let asked = format!(
            "(() => {{ try {{ return Boolean({condition}); }} catch (thrown) {{ return String(thrown); }} }})()"
        );
        let mut last = Value::Null;
        let waiting = async {
            loop {
                last = self.eval(&asked).await;
                if last == json!(true) {
                    return;
                }
                self.eval("new Promise((done) => setTimeout(done, 30))").await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("never came true in the page: {condition} (last: {last})");
        }
    }

    /// Waits until what an expression gives is the same over a few frames, and gives it.
    pub(crate) async fn settled(&mut self, expression: &str) -> Value {
        let frames = "new Promise((done) => setTimeout(() => requestAnimationFrame(done), 100))";
        let waiting = async {
            let mut before = self.eval(expression).await;
            let mut same = 0;
            while same < 3 {
                self.eval(&format!("{frames}.then(() => 0)")).await;
                let now = self.eval(expression).await;
                same = if now == before { same + 1 } else { 0 };
                before = now;
            }
            before
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never comes to rest: {expression}"))
    }

    /// Presses the mouse on the middle of the first element that the selector finds, where a person would see it.
    pub(crate) async fn click(&mut self, selector: &str) {
        self.wait_for(&format!("document.querySelector({selector:?})")).await;
        let place = self
            .eval(&format!(
                "(() => {{ const e = document.querySelector({selector:?}); e.scrollIntoView({{block: 'center'}});
                  const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
            ))
            .await;
        for kind in ["mousePressed", "mouseReleased"] {
            let press =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", press).await;
        }
    }

    /// Presses a key.
    pub(crate) async fn key(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut press = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" {
                press["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", press).await;
        }
    }

    /// Types text where the focus is.
    pub(crate) async fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Errors that the page put on its console or threw, and refusals by its content security policy.
    pub(crate) fn errors(&self) -> Vec<String> {
        let is_error = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(is_error).map(|e| e["params"].to_string()).collect()
    }

    /// Every address that the page asked for.
    pub(crate) fn requested(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        sent.map(|e| e["params"]["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
    }
}
