//! Odd files, odd bodies, odd disks.

use crate::program::{Program, command, site};
use crate::support::{TestApp, post_request, text};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A data directory with the folder of a day.
fn data() -> (TempDir, PathBuf) {
    let data = TempDir::new().unwrap();
    let day = data.path().join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    (data, day)
}

fn session(id: &str) -> String {
    format!(
        "{{\"format\":1,\"session_id\":\"{id}\",\"user_name\":\"User\",\"started_at\":\"2026-02-09T21:30:00.000Z\",\
         \"metadata\":{{\"type\":\"chat\"}},\"messages\":[\n{{\"id\":\"a\",\"parent_id\":null,\"role\":\"user\",\"content\":\"words\",\
         \"timestamp\":\"2026-02-09T21:30:00.000Z\",\"metadata\":{{}},\"rev\":1}}\n],\"last_updated\":\"2026-02-09T21:30:00.000Z\",\
         \"revision\":1,\"stats\":{{\"total_messages\":1,\"user_messages\":1,\"assistant_messages\":0,\"errors\":0}}}}"
    )
}

fn doctor(data: &Path, args: &[&str]) -> (Option<i32>, String) {
    let (status, said, _) = doctor_and_log(data, args);
    (status, said)
}

fn doctor_and_log(data: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verbatim"));
    let output = command.args(["doctor", "--data-dir"]).arg(data).args(args).output().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

async fn health(program: &Program) -> Value {
    reqwest::get(program.url("/health")).await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn what_python_writes_is_taken_by_every_route() {
    let app = TestApp::new();
    let (status, started) =
        app.post_text("/api/sessions/start", r#"{"messages":null,"metadata":{"x":NaN,"y":[Infinity]}}"#).await;
    assert_eq!(status, StatusCode::OK, "{started}");
    let id = started["session_id"].as_str().unwrap();
    let body = format!(
        r#"{{"session_id":"{id}","messages":[{{"id":"m","role":"user","content":"cut BYTE here","rev":null,
        "metadata":{{"score":[NaN,-Infinity,1e999,1.50]}}}}],"metadata":null,"base_revision":null,"user_name":null}}"#
    );
    let bytes = body.replace("BYTE", "\u{1}").into_bytes().into_iter().map(|byte| if byte == 1 { 0xFF } else { byte });
    let bytes: Vec<u8> = bytes.collect();
    let (status, answer) = app.post_text("/api/sessions/save", bytes.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, again) = app.post_text("/api/sessions/save", bytes).await;
    assert_eq!((status, &again["revision"]), (StatusCode::OK, &answer["revision"]), "it can be repeated");
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":null})).await;
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][0]["content"], "cut \u{FFFD} here");
    assert_eq!(loaded["messages"][0]["metadata"]["score"].to_string(), "[null,null,1e+999,1.50]");
    assert_eq!(loaded["metadata"]["y"], json!([null]));
    for (path, body) in [
        ("/api/sessions/list", &b"{\"query\":\"cut \xFF\",\"x\":NaN}"[..]),
        ("/api/sessions/export", b"{\"query\":\"cut \xFF\",\"x\":NaN}"),
    ] {
        let (status, answer) = app.post_text(path, body.to_vec()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    let body = format!(
        r#"{{"session_id":"{id}","message":{{"id":"q","content":"echo","parent_id":"m"}},"modes":{{"commander":null}},"x":NaN}}"#
    );
    let answer = text(app.send(post_request("/api/replies/start", body)).await).await;
    assert!(answer.contains("\"type\":\"done\""), "{answer}");
}

#[tokio::test]
async fn half_a_character_is_taken_by_every_route() {
    let app = TestApp::new();
    let (status, started) =
        app.post_text("/api/sessions/start", r#"{"user_name":"A\ud83dB","metadata":{"t\udc00":"\ud83d"}}"#).await;
    assert_eq!(status, StatusCode::OK, "{started}");
    let id = started["session_id"].as_str().unwrap();
    let body = format!(
        r#"{{"session_id":"{id}","messages":[{{"id":"m","role":"user","content":"cut \ud83d here \ud83d\ude00","metadata":{{"\udfff":1}}}}]}}"#
    );
    let (status, answer) = app.post_text("/api/sessions/save", body.clone()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (status, again) = app.post_text("/api/sessions/save", body).await;
    assert_eq!((status, &again["revision"]), (StatusCode::OK, &answer["revision"]), "it can be repeated");
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][0]["content"], "cut \u{FFFD} here 😀");
    assert_eq!(loaded["messages"][0]["metadata"]["\u{FFFD}"], 1);
    assert_eq!((&loaded["user_name"], &loaded["metadata"]["t\u{FFFD}"]), (&json!("A\u{FFFD}B"), &json!("\u{FFFD}")));
    for (path, body) in [
        ("/api/sessions/list", r#"{"query":"cut \ud83d"}"#.to_owned()),
        ("/api/sessions/export", r#"{"query":"cut \ud83d"}"#.to_owned()),
    ] {
        let (status, answer) = app.post_text(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    let body = format!(r#"{{"session_id":"{id}","message":{{"id":"q","content":"echo \ud83d","parent_id":"m"}}}}"#);
    let answer = text(app.send(post_request("/api/replies/start", body)).await).await;
    assert!(answer.contains("\"type\":\"done\"") && answer.contains('\u{FFFD}'), "{answer}");
}

#[tokio::test]
async fn numbers_come_back_as_they_were_written() {
    let app = TestApp::new();
    let id = app.start().await;
    let numbers = r#"{"channel":99999999999999999999,"a":1.0,"b":1e+5,"c":-0.0,"d":0.1000,"e":1e+999,"f":[-1.5e-400]}"#;
    let body = format!(
        r#"{{"session_id":"{id}","metadata":{{"n":{numbers}}},"messages":[{{"id":"m","role":"assistant","content":"x","metadata":{{"n":{numbers}}},
            "extra":{numbers},"parts":[{{"type":"tool","name":"t","arguments":{numbers},"result":{numbers}}},{{"type":"later","n":{numbers}}}]}}]}}"#
    );
    let (status, answer) = app.post_text("/api/sessions/save", body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let app = app.restarted();
    let file = crate::support::find(app.data(), &format!("{id}.json")).unwrap();
    let written = std::fs::read_to_string(file).unwrap();
    assert_eq!(written.matches(&numbers[1..numbers.len() - 1]).count(), 6, "{written}");
    for path in ["/api/sessions/load", "/api/sessions/export"] {
        let response = app.send(post_request(path, json!({"session_id":id}).to_string())).await;
        let answer = text(response).await;
        // What a tool call holds is told twice, as its part and as a tool that was used.
        assert_eq!(answer.matches(&numbers[1..numbers.len() - 1]).count(), 8, "{path}: {answer}");
    }
}

#[test]
fn the_doctor_calls_nothing_well_that_a_person_must_see_to() {
    let (data, day) = data();
    std::fs::write(day.join("abc123def456.json"), session("abc123def456")).unwrap();
    std::fs::create_dir(data.path().join("replies")).unwrap();
    assert_eq!(doctor(data.path(), &[]).0, Some(0));
    for name in [
        "sessions/2026-02-09/abc123def456.sync-conflict-20260209-213000-ABCDEFG.json",
        "sessions/2026-02-09/abc123def456 (conflicted copy).json",
        "sessions/2026-02-09/abc123def456.json.tmp",
        "sessions/2026-02-09/._abc123def456.json",
        "sessions/2026-02-09/abc123def456.json~",
        "sessions/2026-02-09/notes.txt",
        "sessions/2026-02-09 (1)/abc123def456.json",
        "sessions/abc123def456.json",
        "trash/old/abc123def456.json",
        "replies/r (conflicted copy).ndjson",
        "replies/headless.ndjson",
    ] {
        let path = data.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, session("abc123def456")).unwrap();
        for args in [&["--dry-run"][..], &[]] {
            let (status, said) = doctor(data.path(), args);
            assert_eq!(status, Some(2), "{name}: {said}");
            assert!(said.contains("remains: ") && said.contains("something remains"), "{name}: {said}");
        }
        std::fs::remove_file(&path).unwrap();
        let folder = path.parent().unwrap();
        if ![day.clone(), data.path().join("sessions"), data.path().join("replies")].contains(&folder.to_owned()) {
            std::fs::remove_dir(folder).unwrap();
        }
        assert_eq!(doctor(data.path(), &[]).0, Some(0), "{name}");
    }
}

#[tokio::test]
async fn whatever_we_make_is_for_its_owner_only() {
    let (site, parent) = (site(), TempDir::new().unwrap());
    let data = parent.path().join("memory");
    let mut wide = Command::new("sh");
    // A shell, because the permissions that a process takes away are its own to set.
    wide.args(["-c", "umask 000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_verbatim")]);
    let given = command(site.path(), &data);
    wide.args(given.get_args());
    let program = Program::run(wide);
    let id = program.post("/api/sessions/start", json!({})).await["session_id"].as_str().unwrap().to_owned();
    let message = json!({"id":"m","role":"user","content":"words"});
    program.post("/api/sessions/save", json!({"session_id":id,"messages":[message]})).await;
    program.post("/api/sessions/save", json!({"session_id":id,"metadata":{"title":"other"}})).await;
    let started = program.post("/api/sessions/start", json!({})).await;
    program.post("/api/sessions/delete", json!({"session_id":started["session_id"]})).await;
    let body = json!({"session_id":id,"message":{"id":"q","content":"slow 1000 20"}});
    let mut stream = reqwest::Client::new().post(program.url("/api/replies/start")).json(&body).send().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(data.join("replies")).unwrap().count() == 0 {
        assert!(Instant::now() < deadline, "no journal came");
        stream.chunk().await.unwrap();
    }
    let mut seen = Vec::new();
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder:?}");
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            // What is passing may be gone by now.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                folders.push(entry.path());
            } else {
                assert_eq!(found.permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
                seen.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    for part in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "lock", ".json", ".ndjson"] {
        assert!(seen.iter().any(|name| name.ends_with(part)), "{part}: {seen:?}");
    }
}

#[test]
fn an_open_data_directory_is_told_of_and_left_as_it_is() {
    let (data, day) = data();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(day.join("abc.json"), session("abc")).unwrap();
    let (_, _, log) = doctor_and_log(data.path(), &[]);
    let advice = format!("chmod -R go-rwx '{}'", data.path().display());
    assert!(log.contains(&advice), "{log}");
    let (site, log) = (site(), tempfile::NamedTempFile::new().unwrap());
    drop(Program::run_with_log(command(site.path(), data.path()), log.reopen().unwrap()));
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(said.contains(&advice), "{said}");
    assert_eq!(std::fs::metadata(data.path()).unwrap().permissions().mode() & 0o777, 0o755);
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (_, _, log) = doctor_and_log(data.path(), &[]);
    assert!(!log.contains("chmod"), "{log}");
}

#[tokio::test]
async fn a_file_that_claims_to_be_huge_holds_up_nothing() {
    let (data, day) = data();
    std::fs::write(day.join("good.json"), session("good")).unwrap();
    let sparse = |name: &str, begin: &str, size: u64| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(day.join(name)).unwrap();
        file.write_all_at(begin.as_bytes(), 0).unwrap();
        file.set_len(size).unwrap();
    };
    sparse("huge.json", "", 1 << 40);
    sparse("zeros.json", "", 3 << 30);
    sparse("hole.json", &session("hole")[..180], 3 << 30);
    let site = site();
    let program = Program::run(command(site.path(), data.path()));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let health = health(&program).await;
        if health["unreadable"] == 2 && health["index"] == "ready" {
            assert!(health["sessions"].as_u64().unwrap() >= 1, "{health}");
            break;
        }
        assert!(Instant::now() < deadline, "{health}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak < 400 * 1024, "{peak} kB");
    let answer = reqwest::Client::new().post(program.url("/api/sessions/load")).json(&json!({"session_id":"huge"}));
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 500);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "storage_unreadable");
    let begin = Instant::now();
    assert!(program.signal("TERM").success());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let (status, said) = doctor(data.path(), &["--dry-run"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("huge.json: it cannot be read") && said.contains("larger than 4096 MiB"), "{said}");
    assert!(said.contains("zeros.json: it cannot be read"), "{said}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_large_file() {
    let (data, day) = data();
    // A hole of which each piece is read; the beginning and the end look like a session.
    let file = std::fs::File::create(day.join("large.json")).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&session("large").as_bytes()[..180], 0).unwrap();
    file.set_len(200 << 30).unwrap();
    let site = site();
    let mut command = command(site.path(), data.path());
    command.args(["--max-session-file-mib", "1000000"]);
    let program = Program::run(command);
    let load = reqwest::Client::new().post(program.url("/api/sessions/load")).json(&json!({"session_id":"large"}));
    let load = tokio::spawn(load.send());
    let export = reqwest::Client::new().post(program.url("/api/sessions/export")).json(&json!({"session_id":"large"}));
    let export = tokio::spawn(export.send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(health(&program).await["index"], "rebuilding", "it is being read");
    let begin = Instant::now();
    assert!(program.signal("TERM").success());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop((load.await, export.await));
}

#[tokio::test]
async fn a_save_that_would_make_a_file_unreadable_is_refused_in_words() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let mut command = command(site.path(), data.path());
    command.args(["--max-session-file-mib", "1"]);
    let program = Program::run(command);
    let id = program.post("/api/sessions/start", json!({})).await["session_id"].as_str().unwrap().to_owned();
    let half =
        |name: &str| json!({"session_id":id,"messages":[{"id":name,"role":"user","content":"x".repeat(600 * 1024)}]});
    assert_eq!(program.post("/api/sessions/save", half("a")).await["success"], true);
    for save in [half("b"), json!({"session_id":id,"metadata":{"x":"x".repeat(600 * 1024)}})] {
        let refused = reqwest::Client::new().post(program.url("/api/sessions/save")).json(&save).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 409);
        let said = refused.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("1 MiB") && said.contains("--max-session-file-mib"), "{said}");
    }
    let small = json!({"session_id":id,"messages":[{"id":"c","role":"user","content":"short"}]});
    assert_eq!(program.post("/api/sessions/save", small).await["success"], true);
    let loaded = program.post("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"].as_array().unwrap().len(), 2);
    assert_eq!(health(&program).await["writable"], true, "what is refused for its size says nothing of the disk");
}

#[tokio::test]
async fn pipes_and_folders_in_the_place_of_files_hold_up_nothing() {
    let (data, day) = data();
    std::fs::write(day.join("good.json"), session("good")).unwrap();
    make_fifo(&day.join("pipe.json"));
    std::fs::create_dir(day.join("folder.json")).unwrap();
    symlink("/dev/zero", day.join("device.json")).unwrap();
    std::fs::create_dir_all(data.path().join("replies")).unwrap();
    make_fifo(&data.path().join("replies/pipe.ndjson"));
    make_fifo(&data.path().join("index.sqlite"));
    make_fifo(&data.path().join("index.sqlite-wal"));
    make_fifo(&data.path().join("index.sqlite-damaged"));
    std::fs::create_dir(data.path().join("writable.new")).unwrap();
    let trash = data.path().join("trash/2026-02-09");
    std::fs::create_dir_all(trash.join("folder.json/inside")).unwrap();
    make_fifo(&trash.join("pipe.json"));
    std::fs::write(trash.join("gone.json"), session("gone")).unwrap();
    let site = site();
    let program = Program::run(command(site.path(), data.path()));
    assert_eq!(program.post("/api/sessions/load", json!({"session_id":"good"})).await["messages"][0]["id"], "a");
    let answer = program.post("/api/sessions/empty_trash", json!({})).await;
    assert_eq!(answer["success"], true, "{answer}");
    assert!(!trash.join("gone.json").exists() && trash.join("folder.json/inside").is_dir());
    let answer = program.post("/api/sessions/empty_trash", json!({})).await;
    assert_eq!(answer["message"], "0 sessions removed for good.");
    drop(program);
    make_fifo(&data.path().join("index.sqlite-damaged"));
    std::fs::remove_file(data.path().join("index.sqlite")).unwrap();
    make_fifo(&data.path().join("index.sqlite"));
    for args in [&["--dry-run"][..], &[]] {
        let (status, said) = doctor(data.path(), args);
        assert!(status == Some(2) && said.contains("pipe.json") && said.contains("folder.json"), "{said}");
    }
}

#[tokio::test]
async fn what_another_name_shows_is_not_written_to() {
    let (data, day) = data();
    let (path, other) = (day.join("abc.json"), data.path().join("other"));
    std::fs::write(&path, session("abc")).unwrap();
    std::fs::hard_link(&path, &other).unwrap();
    let elsewhere = data.path().join("elsewhere");
    std::fs::write(&elsewhere, "").unwrap();
    std::fs::hard_link(&elsewhere, data.path().join("index.sqlite")).unwrap();
    let site = site();
    let program = Program::run(command(site.path(), data.path()));
    let message = json!({"id":"b","role":"user","content":"more"});
    let saved = program.post("/api/sessions/save", json!({"session_id":"abc","messages":[message]})).await;
    assert_eq!(saved["success"], true);
    assert_eq!(std::fs::read_to_string(&other).unwrap(), session("abc"));
    assert!(std::fs::read_to_string(&path).unwrap().contains("more"));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"");

    let body = json!({"session_id":"abc","message":{"id":"q","content":"slow 1000 10"}});
    let mut stream = reqwest::Client::new().post(program.url("/api/replies/start")).json(&body).send().await.unwrap();
    let replies = data.path().join("replies");
    let journal = loop {
        stream.chunk().await.unwrap();
        let name = std::fs::read_dir(&replies).unwrap().flatten().map(|entry| entry.path()).next();
        if let Some(journal) = name {
            break journal;
        }
    };
    let linked = data.path().join("linked");
    std::fs::hard_link(&journal, &linked).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while linked.metadata().unwrap().nlink() > 1 {
        assert!(Instant::now() < deadline, "the journal is not replaced");
        stream.chunk().await.unwrap();
    }
    assert!(journal.metadata().unwrap().len() >= linked.metadata().unwrap().len());
}

#[test]
fn a_lock_that_is_no_file_is_said_in_one_sentence() {
    let site = site();
    type Make = fn(&Path);
    let makes: [Make; 3] = [
        make_fifo,
        |path| std::fs::create_dir(path).unwrap(),
        |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
    ];
    for make in makes {
        let data = TempDir::new().unwrap();
        make(&data.path().join("lock"));
        let said = crate::program::refusal(command(site.path(), data.path()));
        assert!(said.contains("lock is no plain file"), "{said}");
    }
}

/// A disk of its own with room for so many KiB; `None` where none can be made, because that takes an administrator.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(kib: usize) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let size = format!("size={kib}k,mode=700");
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        made.is_ok_and(|made| made.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_what_is_kept_is_served_and_saves_resume_when_there_is_room() {
    let Some(disk) = SmallDisk::new(4 * 1024) else {
        eprintln!("skipped: no disk can be mounted here");
        return;
    };
    let site = site();
    let data = disk.0.path().join("memory");
    let program = Program::run(command(site.path(), &data));
    let id = program.post("/api/sessions/start", json!({})).await["session_id"].as_str().unwrap().to_owned();
    let say = |message: &str| json!({"session_id":id,"messages":[{"id":message,"role":"user","content":"zanzibar"}]});
    assert_eq!(program.post("/api/sessions/save", say("a")).await["success"], true);
    assert!(program.signal("TERM").success());
    let index = std::fs::read(data.join("index.sqlite")).unwrap();
    let filler = disk.0.path().join("filler");
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=1k"]).arg(format!("of={}", filler.display())).output();
    assert!(!filled.unwrap().status.success(), "the disk is full");

    let program = Program::run(command(site.path(), &data));
    let deadline = Instant::now() + Duration::from_secs(60);
    while health(&program).await["index"] != "ready" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let is = health(&program).await;
    assert_eq!((&is["writable"], &is["sessions"], &is["status"]), (&json!(false), &json!(1), &json!("ok")));
    let found = program.post("/api/sessions/list", json!({"query":"zanzibar"})).await;
    assert_eq!(found["sessions"][0]["session_id"], json!(id));
    assert_eq!(program.post("/api/sessions/load", json!({"session_id":id})).await["messages"][0]["id"], "a");
    let refused = program.post("/api/sessions/start", json!({})).await;
    assert_eq!(refused["error"]["code"], "storage_unwritable", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("free space"), "{refused}");
    assert_eq!(std::fs::read(data.join("index.sqlite")).unwrap(), index, "it is left as it was");

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(program.post("/api/sessions/save", say("b")).await["success"], true);
    assert_eq!(health(&program).await["writable"], true);
    assert_eq!(program.post("/api/sessions/load", json!({"session_id":id})).await["messages"][1]["id"], "b");
    assert!(program.signal("TERM").success());
}

/// A session in a day folder into which nobody may look is not "not found". Who may do everything, as in a container, is not
/// kept out by permissions; then another user runs the server.
#[tokio::test]
async fn a_folder_without_permissions_is_a_failure_with_a_cause_and_not_a_missing_session() {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    let (data, day) = data();
    std::fs::write(day.join("abc.json"), session("abc")).unwrap();
    let probe = day.join("probe");
    std::fs::write(&probe, "").unwrap();
    std::fs::set_permissions(&day, std::fs::Permissions::from_mode(0o000)).unwrap();
    let site = site();
    let mut command = command(site.path(), data.path());
    if probe.metadata().is_ok() {
        let nobody = 65_534;
        for path in [
            data.path().to_owned(),
            data.path().join("sessions"),
            day.clone(),
            day.join("abc.json"),
            site.path().to_owned(),
        ] {
            chown(&path, Some(nobody), Some(nobody)).unwrap();
        }
        command.uid(nobody).gid(nobody);
        let may_run = Command::new(env!("CARGO_BIN_EXE_verbatim")).arg("--version").uid(nobody).gid(nobody).output();
        if may_run.is_err() {
            return;
        }
    }
    let program = Program::run(command);
    for path in ["delete", "load", "restore"] {
        let request = reqwest::Client::new().post(program.url(&format!("/api/sessions/{path}")));
        let answer = request.json(&json!({"session_id":"abc"})).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 500, "{path}");
    }
    drop(program);
    std::fs::set_permissions(&day, std::fs::Permissions::from_mode(0o700)).unwrap();
}
