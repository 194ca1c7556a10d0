//! The dashboard in a real browser, against the real API with a made-up engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use forefend::{
    api::{
        ApiOptions, DrillsHandle, EngineHandle, MemoryHistory, ModelsHandle, OperatorRequest, Role, Server,
        Token,
    },
    drills::DrillCommand,
};
use forefend_control::OperatorCommand;
use forefend_domain::{Timestamp, TrafficView};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

#[path = "browser/mod.rs"]
#[expect(dead_code, reason = "pictures are taken of reports only")]
mod browser;
#[path = "../examples/fixture/mod.rs"]
mod fixture;

use browser::Browser;
use fixture::{Fixture, Telling, story::Story};

struct Served {
    url: String,
    fixture: Fixture,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

fn serve(tokens: Vec<Token>) -> Served {
    let fixture = Fixture::start(Telling { from_s: 50.0, speed: 0.0, tick: Duration::from_millis(250) });
    let options = ApiOptions { listen: "127.0.0.1:0".parse().unwrap(), tokens };
    let server = Server::bind(&options, fixture.handle.clone()).unwrap();
    let url = format!("http://{}/", server.local_addr());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Served { url, fixture, stop, running }
}

fn nothing_left_loopback(browser: &Browser, url: &str) {
    let requested = browser.requested();
    assert!(requested.iter().any(|r| r.ends_with("/api/v1/events")), "{requested:?}");
    for address in requested {
        assert!(address.starts_with(url) || address.starts_with("data:"), "the page asked for {address}");
    }
}

#[tokio::test]
async fn an_operator_sees_the_danger_understands_it_and_freezes() {
    let Some(program) = browser::installed() else { return };
    let served = serve(vec![]);
    let mut page = Browser::start(program).await;
    page.size(1600, 1000).await;
    page.open(&served.url).await;

    // Every cell is on the map, and the endangered one is named in the headline and shown without a click.
    page.wait_for("document.querySelectorAll('article.card').length === 5").await;
    page.wait_for(
        "document.querySelector('.sentence').textContent.startsWith('shop-north-1 is likely to fail')",
    )
    .await;
    page.wait_for("document.querySelector('#detail h2').textContent === 'shop-north-1'").await;
    assert_eq!(
        page.eval("document.querySelector('article[data-cell=shop-north-1]').dataset.risk").await,
        "danger"
    );
    let text = "document.querySelector('article[data-cell=shop-north-1]').innerText";
    for shown in ["P(fail", "Primary", "At risk", "configured", "effective", "observed", "Next"] {
        assert_eq!(
            page.eval(&format!("{text}.includes({shown:?})")).await,
            json!(true),
            "the card lacks {shown}"
        );
    }

    // Its drivers, its words, its bounds, its curve.
    page.wait_for("document.querySelectorAll('.drivers li').length === 3").await;
    page.wait_for("document.querySelector('.drivers').innerText.includes('process_resident_memory_bytes')")
        .await;
    page.wait_for("document.querySelector('pre.words').innerText.includes('Race:')").await;
    page.wait_for("document.querySelector('.bounds [data-binding]').innerText.includes('evidence')").await;
    page.wait_for("document.querySelector('#curve-plot canvas')").await;
    page.wait_for("document.querySelectorAll('#charts canvas').length === 2").await;
    page.wait_for("document.querySelectorAll('.entries li').length >= 5").await;
    page.wait_for("document.querySelector('.shift .tag.strong').textContent === 'bound by evidence'").await;
    page.wait_for("document.querySelectorAll('.strip [aria-current]').length === 2").await;

    // Another cell, by mouse and by keyboard.
    page.click("article[data-cell=shop-south-1] .card-name").await;
    page.wait_for("document.querySelector('#detail h2').textContent === 'shop-south-1'").await;
    page.wait_for("document.querySelector('pre.words').innerText.startsWith('shop-south-1')").await;
    page.eval("document.querySelector('article[data-cell=shop-north-2] .card-name').focus()").await;
    page.key("Enter", 13, "\r").await;
    page.wait_for("document.querySelector('#detail h2').textContent === 'shop-north-2'").await;

    // A tick moves nothing and takes no focus away, once what was asked for that cell has come.
    page.wait_for("document.querySelector('pre.words').innerText.startsWith('shop-north-2')").await;
    let places = "JSON.stringify([...document.querySelectorAll('.card, .panel')].map((e) => e.getBoundingClientRect().top))";
    let before = page.settled(places).await;
    let tick = page.eval("document.querySelector('.tick').textContent").await;
    page.wait_for(&format!("document.querySelector('.tick').textContent !== {tick}")).await;
    assert_eq!(page.eval(places).await, before, "a tick moved the layout");
    assert_eq!(page.eval("document.activeElement.textContent").await, "shop-north-2");

    // Freeze asks first; only a yes goes to the engine.
    page.click("#freeze").await;
    page.wait_for("document.querySelector('#confirm').open").await;
    page.click("#confirm [data-act=cancel]").await;
    page.wait_for("!document.querySelector('#confirm').open").await;
    assert!(served.fixture.seen.lock().unwrap().is_empty(), "cancel must command nothing");
    page.click("#freeze").await;
    page.click("#confirm-ok").await;
    page.wait_for("document.querySelector('#frozen-banner')?.innerText.includes('Frozen')").await;
    page.wait_for("document.querySelector('.entries').innerText.includes('Local asked: freeze')").await;
    page.click("#frozen-banner button").await;
    page.click("#confirm-ok").await;
    page.wait_for("!document.querySelector('#frozen-banner')").await;
    let seen = served.fixture.seen.lock().unwrap().clone();
    let local = || "local".to_owned();
    assert_eq!(seen, [(local(), OperatorCommand::Freeze), (local(), OperatorCommand::Unfreeze)]);

    // The ledger can be filtered.
    page.click("[data-group=operators].chip").await;
    page.wait_for(
        "[...document.querySelectorAll('.entries li')].every((e) => e.dataset.group === 'operators')",
    )
    .await;

    assert_eq!(page.errors(), Vec::<String>::new());
    nothing_left_loopback(&page, &served.url);

    // The engine goes: what is shown is old, and looks it.
    served.stop.send(()).unwrap();
    served.running.await.unwrap();
    page.wait_for("document.body.dataset.link === 'lost'").await;
    page.wait_for("document.querySelector('.banner.lost').innerText.includes('Connection lost')").await;
    assert_eq!(page.eval("getComputedStyle(document.querySelector('main')).filter").await, "grayscale(1)");
    assert_eq!(page.eval("document.querySelector('#freeze').disabled").await, json!(true));
    page.stop().await;
}

#[tokio::test]
async fn it_fits_every_width_in_light_and_dark() {
    let Some(program) = browser::installed() else { return };
    let served = serve(vec![]);
    let mut page = Browser::start(program).await;
    for width in [320, 375, 768, 1100, 1600, 2560] {
        page.size(width, 900).await;
        page.open(&served.url).await;
        page.wait_for("document.querySelectorAll('article.card').length === 5").await;
        page.wait_for("document.querySelectorAll('#charts canvas').length === 2").await;
        page.wait_for("document.querySelectorAll('.entries li').length >= 5").await;
        page.wait_for("document.querySelectorAll('.bounds [data-binding]').length > 0").await;
        let wide =
            page.eval("[document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
        assert_eq!(wide[0], wide[1], "at {width} px the page scrolls sideways");
        let cut = "[...document.querySelectorAll('.card *, .detail *')].filter((e) => e.clientWidth > 0 \
                   && e.getBoundingClientRect().right > document.documentElement.clientWidth).length";
        assert_eq!(page.eval(cut).await, json!(0), "at {width} px something is cut off");
    }
    let background = "getComputedStyle(document.body).backgroundColor";
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        page.click("#theme").await;
        seen.insert(page.eval(background).await.to_string());
    }
    assert_eq!(seen.len(), 2, "the toggle goes through light and dark");
    assert_eq!(page.errors(), Vec::<String>::new());
    page.stop().await;
    served.stop.send(()).unwrap();
    served.running.await.unwrap();
}

#[tokio::test]
async fn what_is_unknown_is_shown_as_unknown_and_approval_can_be_given() {
    let Some(program) = browser::installed() else { return };
    let now = Timestamp::from_unix_ms(1_800_000_000_000);
    // An engine that knows nothing yet.
    let mut nothing = Story::default().snapshot(0.0, now, 1);
    nothing.world.services.clear();
    nothing.predictions.clear();
    let (publish, snapshots) = watch::channel(Arc::new(nothing));
    let (commands, mut inbox) = mpsc::channel::<OperatorRequest>(1);
    let history = Arc::new(MemoryHistory::new(100, 100, Duration::ZERO));
    let handle = EngineHandle {
        snapshots,
        history,
        commands,
        drills: DrillsHandle::none(),
        models: ModelsHandle::none(),
        evidence: Default::default(),
    };
    let options = ApiOptions { listen: "127.0.0.1:0".parse().unwrap(), tokens: vec![] };
    let server = Server::bind(&options, handle).unwrap();
    let url = format!("http://{}/", server.local_addr());
    let running = tokio::spawn(server.run(std::future::pending()));
    let mut page = Browser::start(program).await;
    page.size(1600, 1000).await;
    page.open(&url).await;
    page.wait_for("document.querySelector('#map').innerText.includes('No services yet')").await;
    page.wait_for("document.querySelector('#ledger').innerText.includes('Nothing has been decided yet')")
        .await;
    page.wait_for("document.querySelector('#detail').innerText.includes('No cells yet')").await;

    // A data plane that does not answer, no telemetry, a shift that waits for approval, a part that does not work.
    let story = Story { asks: true, ..Story::default() };
    let mut blind = story.snapshot(45.0, now, 2);
    blind.predictions.clear();
    blind.plan.race_margin_s.clear();
    blind.degraded = vec!["the data plane does not answer".into()];
    blind.shifts[0].bound_by = "approval".into();
    blind.shifts[0].to.clear();
    for service in blind.world.services.values_mut() {
        service.effective = None;
        for cell in service.cells.values_mut() {
            cell.traffic = TrafficView::default();
            cell.telemetry_at = None;
            cell.passport = None;
        }
    }
    publish.send_replace(Arc::new(blind));
    page.wait_for("document.querySelectorAll('article.card[data-risk=unknown]').length === 5").await;
    page.wait_for("document.querySelector('.banner.degraded').innerText.includes('does not answer')").await;
    page.wait_for("document.querySelector('#flow').innerText.includes('unknown: the data plane')").await;
    page.wait_for("document.querySelector('.route').innerText.includes('no standby yet')").await;
    assert_eq!(
        page.eval("document.querySelector('.card .prob').innerText").await,
        "–",
        "unknown is not zero"
    );
    page.wait_for("document.querySelector('pre.words').innerText.includes('no telemetry has ever arrived')")
        .await;
    page.click("article[data-cell=shop-north-1] [data-act=approve]").await;
    page.click("#confirm-ok").await;
    let request = tokio::time::timeout(Duration::from_secs(60), inbox.recv()).await;
    let request = request.expect("the approval reaches the engine in time").unwrap();
    assert!(matches!(&request.command, OperatorCommand::Approve { cell } if cell.as_str() == "shop-north-1"));
    request.reply.send(Err("no shift of `shop-north-1` waits for approval".into())).unwrap();
    page.wait_for("document.querySelector('#toast').innerText.includes('waits for approval')").await;
    // A mirror that is tried is shown, and is no shift.
    publish.send_replace(Arc::new(Story::default().snapshot(35.0, now, 3)));
    page.wait_for("document.querySelector('.pre-test')?.innerText.includes('pre-test, no shift')").await;
    page.wait_for("document.querySelector('.pre-test').innerText.includes('of the traffic, at most 1%')")
        .await;
    page.wait_for("!document.querySelector('#flow').innerText.includes('all traffic is at home')").await;
    // A refusal is a 409, which browsers put on the console by themselves.
    let own = page.errors().into_iter().filter(|e| !e.contains("409")).collect::<Vec<_>>();
    assert_eq!(own, Vec::<String>::new());
    page.stop().await;
    running.abort();
}

#[tokio::test]
async fn drills_are_shown_approved_ended_and_their_reports_read() {
    let Some(program) = browser::installed() else { return };
    let served = serve(vec![]);
    let mut page = Browser::start(program).await;
    page.size(1600, 1000).await;
    page.open(&served.url).await;
    page.wait_for("document.querySelectorAll('.runs li').length === 5").await;
    let states = "[...document.querySelectorAll('.runs li')].map((e) => e.dataset.state)";
    assert_eq!(page.eval(states).await, json!(["waiting", "running", "upheld", "stopped", "refused"]));
    let buttons = "[...document.querySelectorAll('.runs li')].map((e) => [...e.querySelectorAll('button')].map((b) => b.textContent))";
    assert_eq!(
        page.eval(buttons).await,
        json!([["Approve", "End"], ["End"], ["Report"], ["Report"], []]),
        "each run offers what can be done with it"
    );

    page.click("[data-run=south-is-lost-5] [data-act=approve-drill]").await;
    page.click("#confirm-ok").await;
    page.wait_for("document.querySelector('[data-run=south-is-lost-5]').dataset.state === 'running'").await;
    page.click("[data-run=slow-disk-4] [data-act=end-drill]").await;
    page.click("#confirm [data-act=cancel]").await;
    page.click("[data-run=slow-disk-4] [data-act=end-drill]").await;
    page.click("#confirm-ok").await;
    page.wait_for("document.querySelector('[data-run=slow-disk-4]').dataset.state === 'stopped'").await;
    page.click("[data-run=south-is-lost-3] [data-act=drill-report]").await;
    page.wait_for("document.querySelector('#report').open").await;
    page.wait_for("document.querySelector('#report-text').textContent.includes('was upheld')").await;
    page.click("[data-act=close-report]").await;
    page.wait_for("!document.querySelector('#report').open").await;
    let seen = served.fixture.drills_seen.lock().unwrap().clone();
    let of = |id: &str| id.to_owned();
    let wanted = [
        DrillCommand::Approve { id: of("south-is-lost-5") },
        DrillCommand::End { id: of("slow-disk-4") },
        DrillCommand::Report { id: of("south-is-lost-3") },
    ];
    assert_eq!(seen, wanted.map(|command| ("local".to_owned(), command)), "cancel must command nothing");
    assert_eq!(page.errors(), Vec::<String>::new());
    page.stop().await;
    served.stop.send(()).unwrap();
    served.running.await.unwrap();
}

#[tokio::test]
async fn every_kind_of_ledger_entry_reads_as_a_sentence() {
    let Some(program) = browser::installed() else { return };
    let served = serve(vec![]);
    let mut page = Browser::start(program).await;
    page.open(&served.url).await;
    let made = json!({"id": "m1", "region": "north", "zone": "north-b"});
    let effects = [
        json!({"effect": "set-weights", "service": "shop", "weights": {}}),
        json!({"effect": "create", "cell": made, "blueprint": "shop"}),
        json!({"effect": "recreate", "cell": "c1"}),
        json!({"effect": "park", "cell": "c1"}),
        json!({"effect": "unpark", "cell": "c1"}),
        json!({"effect": "rewarm", "cell": "c1"}),
        json!({"effect": "retire", "cell": "c1"}),
        json!({"effect": "ask-approval", "cell": "c1"}),
    ];
    let why = json!([{"cell": "c1", "what": "x", "why": "reasons"}]);
    let mut entries = vec![
        json!({"kind": "engine", "what": "started"}),
        json!({"kind": "decision", "effects": effects, "explanations": why, "predictions": []}),
        json!({"kind": "decision", "effects": [], "explanations": why, "predictions": []}),
        json!({"kind": "decision", "effects": [], "explanations": [], "predictions": []}),
        json!({"kind": "shift-done", "cell": "c1", "took_s": 12.5}),
        json!({"kind": "returned", "cell": "c1"}),
        json!({"kind": "failure", "cell": "c1", "since": 1, "lead_time_s": 2.5}),
        json!({"kind": "failure", "cell": "c1", "since": 1, "lead_time_s": null}),
        json!({"kind": "operator", "who": "ada", "what": "freeze"}),
        json!({"kind": "invariant-broken", "invariant": "weight-contract", "detail": "more than earned"}),
    ];
    entries.extend(effects.iter().map(|e| json!({"kind": "refused", "effect": e, "why": "no room"})));
    for reason in ["predicted", "failed", "relief", "operator", "drill"] {
        entries.push(json!({"kind": "shift-began", "cell": "c1", "reason": reason}));
    }
    for verdict in ["saved", "false-alarm", "neutral", "unknown"] {
        entries.push(json!({"kind": "judged", "shift": 3, "cell": "c1", "verdict": verdict}));
    }
    let asked = format!("import('/ui/js/format.js').then((m) => {}.map(m.sentence))", json!(entries));
    let sentences = page.eval(&asked).await;
    for (entry, sentence) in entries.iter().zip(sentences.as_array().unwrap()) {
        let sentence = sentence.as_str().unwrap();
        let reads_well =
            sentence.ends_with('.') && sentence.contains(' ') && sentence.starts_with(char::is_alphanumeric);
        let broken = ["undefined", "[object", "null", "NaN"].iter().any(|b| sentence.contains(b));
        assert!(reads_well && !broken, "{entry} reads {sentence:?}");
    }
    page.stop().await;
}

#[tokio::test]
async fn it_asks_for_a_token_when_one_is_needed() {
    let Some(program) = browser::installed() else { return };
    let secret = "0123456789-abcdef";
    let served = serve(vec![Token { name: "vera".into(), secret: secret.into(), role: Role::Viewer }]);
    let mut page = Browser::start(program).await;
    page.size(1100, 900).await;
    page.open(&served.url).await;
    page.wait_for("document.querySelector('#signin').open").await;
    page.type_text("wrong-wrong-wrong").await;
    page.key("Enter", 13, "\r").await;
    page.wait_for("document.querySelector('#signin-error').textContent.includes('not known')").await;
    page.wait_for("document.querySelector('#signin').open").await;
    page.eval("document.querySelector('#token').focus()").await;
    page.type_text(secret).await;
    page.key("Enter", 13, "\r").await;
    page.wait_for("document.querySelectorAll('article.card').length === 5").await;
    // A viewer's command is refused, and the page says so.
    page.click("#freeze").await;
    page.click("#confirm-ok").await;
    page.wait_for("document.querySelector('#toast').textContent.includes('role')").await;
    assert!(served.fixture.seen.lock().unwrap().is_empty());
    // Kept for this tab only.
    assert_eq!(page.eval("localStorage.length").await, json!(0));
    page.stop().await;
    served.stop.send(()).unwrap();
    served.running.await.unwrap();
}
