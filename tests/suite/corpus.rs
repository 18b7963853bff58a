//! `monosem corpus` as a user runs it: a data set from a hub, the report, and everything that can be wrong with disks and runs.

use assert_cmd::Command;
use monosem::artifact::RunDir;
use monosem::corpus::{Split, TokenStream};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

fn monosem(dir: &Path) -> Command {
    let mut command = Command::cargo_bin("monosem").expect("the binary is built with the tests");
    command.env_remove("HF_TOKEN").env_remove("HF_ENDPOINT").args(["--dir", dir.to_str().unwrap(), "--run", "r"]);
    command
}

fn build_from(dir: &Path, text: &Path) -> Command {
    let mut command = monosem(dir);
    command.args(["corpus", "build", "--d-vocab", "280", "--text", text.to_str().unwrap()]);
    command
}

/// 200 documents of a few words.
fn write_text(path: &Path) {
    let lines = (0..200).map(|i| format!("{{\"text\": \"the number {i} of the documents, which is a short one\", \"kind\": \"k{}\"}}\n", i % 2));
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

fn stderr(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn build_then_stats_report_the_same_counts() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.jsonl");
    write_text(&text);
    build_from(dir.path(), &text).assert().success();
    let output = monosem(dir.path()).args(["corpus", "stats", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stream = TokenStream::open(&RunDir::new(dir.path(), "r").tokens()).unwrap();
    assert_eq!(report["counts"]["documents"], 200);
    assert_eq!(report["counts"]["tokens"], stream.len());
    assert_eq!(report["kinds"]["k0"]["documents"], 100);
    let tokens: u64 = ["k0", "k1"].iter().map(|k| report["kinds"][k]["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, stream.len());
    let range = stream.range(Split::HeldOutB);
    assert_eq!(report["counts"]["held_out_b_tokens"], range.end - range.start);
    let plain = monosem(dir.path()).args(["corpus", "stats"]).output().unwrap();
    assert!(String::from_utf8(plain.stdout).unwrap().starts_with("200 documents"));
}

#[test]
fn stats_without_a_stream_says_how_to_build_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("r")).unwrap();
    let said = stderr(monosem(dir.path()).args(["corpus", "stats"]));
    assert!(said.contains("monosem corpus build") && said.contains("--run r"), "{said}");
}

#[test]
fn a_run_in_use_by_another_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.jsonl");
    write_text(&text);
    let held = RunDir::new(dir.path(), "r").lock().unwrap();
    let said = stderr(&mut build_from(dir.path(), &text));
    assert!(said.contains("in use by process") && said.contains(&std::process::id().to_string()), "{said}");
    drop(held);
    build_from(dir.path(), &text).assert().success();
}

#[test]
fn a_flipped_bit_in_a_shard_is_refused_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("a.jsonl");
    write_text(&text);
    build_from(dir.path(), &text).assert().success();
    let shard = dir.path().join("r/tokens/tokens-00000.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 4;
    std::fs::write(&shard, bytes).unwrap();
    let said = stderr(monosem(dir.path()).args(["corpus", "stats"]));
    assert!(said.contains("tokens-00000.safetensors") && said.contains("monosem corpus build"), "{said}");
}

/// A small file system of its own, gone with the value; none where this user may not mount.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        if !mounted.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: this user may not mount a tmpfs");
            return None;
        }
        Some(Mount(dir))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_no_stream_to_be_believed() {
    let Some(disk) = Mount::new("size=48k") else { return };
    let source = tempfile::tempdir().unwrap();
    let text = source.path().join("a.jsonl");
    let lines = (0..3000u64).map(|i| format!("{{\"text\": \"{:x}{:x}\"}}\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15), i * 977));
    std::fs::write(&text, lines.collect::<String>()).unwrap();
    let said = stderr(&mut build_from(disk.0.path(), &text));
    assert!(said.contains("No space left") && said.contains("free some"), "{said}");
    let tokens = RunDir::new(disk.0.path(), "r").tokens();
    assert!(TokenStream::open(&tokens).is_err());
    // A first build that fails leaves no run folder, so no half of a stream either.
    assert!(!disk.0.path().join("r").exists(), "something was left");
}

#[test]
fn a_read_only_folder_is_named() {
    let Some(disk) = Mount::new("ro") else { return };
    let source = tempfile::tempdir().unwrap();
    let text = source.path().join("a.jsonl");
    write_text(&text);
    let said = stderr(&mut build_from(disk.0.path(), &text));
    assert!(said.contains("Read-only") && said.contains(disk.0.path().to_str().unwrap()), "{said}");
}

/// A Parquet file with a text and a kind for each of `rows`, in two row groups; a text may be absent.
fn write_parquet(path: &Path, rows: &[(Option<String>, &str)]) {
    use parquet::data_type::{ByteArray, ByteArrayType};
    let schema = parquet::schema::parser::parse_message_type("message m { optional binary body (UTF8); required binary kind (UTF8); }").unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    for rows in rows.chunks(rows.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let mut body = group.next_column().unwrap().unwrap();
        let levels: Vec<i16> = rows.iter().map(|r| i16::from(r.0.is_some())).collect();
        let values: Vec<ByteArray> = rows.iter().filter_map(|r| r.0.as_deref()).map(ByteArray::from).collect();
        body.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        body.close().unwrap();
        let mut kind = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = rows.iter().map(|r| ByteArray::from(r.1)).collect();
        kind.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        kind.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn a_parquet_file_gives_the_tokens_that_the_same_text_gives_as_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows: Vec<(Option<String>, &str)> =
        (0..200).map(|i| (Some(format!("row {i} of a table, with naïve café and 日本語")), ["a", "b"][i % 2])).collect();
    let lines: String = rows.iter().map(|(text, kind)| serde_json::json!({"body": text, "kind": kind}).to_string() + "\n").collect();
    std::fs::write(dir.path().join("t.jsonl"), lines).unwrap();
    write_parquet(&dir.path().join("t.parquet"), &rows);
    rows[7].0 = None;
    write_parquet(&dir.path().join("bad.parquet"), &rows);
    let built = |file: &str, run: &str, more: &[&str]| {
        let mut command = Command::cargo_bin("monosem").expect("the binary is built with the tests");
        command.args(["--run", run, "--dir"]).arg(dir.path());
        command.args(["corpus", "build", "--d-vocab", "300", "--field", "body", "--text"]).arg(dir.path().join(file)).args(more);
        command
    };
    let ids = |run: &str| {
        let stream = TokenStream::open(&RunDir::new(dir.path(), run).tokens()).unwrap();
        let mut ids = vec![0; stream.len() as usize];
        stream.read(0, &mut ids);
        (ids, stream.n_docs(), stream.kinds().len())
    };
    built("t.parquet", "p", &[]).assert().success();
    built("t.jsonl", "j", &[]).assert().success();
    assert_eq!(ids("p"), ids("j"));
    assert_eq!(ids("p").1, 200);
    let said = stderr(&mut built("bad.parquet", "x", &[]));
    assert!(said.contains("bad.parquet, row 8") && said.contains("null"), "{said}");
    built("bad.parquet", "x", &["--on-error", "skip"]).assert().success();
    assert_eq!(ids("x").1, 199);
}

/// Answers as the hub does for one data set with one JSONL file, to whoever shows the token.
fn serve(listener: TcpListener, body: String) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let (path, range, authorised) = request(&stream);
        let close = "Connection: close\r\n";
        let answer = if !authorised {
            format!("HTTP/1.1 401 Unauthorized\r\n{close}Content-Length: 0\r\n\r\n")
        } else if path.starts_with("/api/datasets/org/tiny/revision/main") {
            let info = r#"{"sha": "c0ffee", "siblings": [{"rfilename": "README.md"}, {"rfilename": "data/train.jsonl"}]}"#;
            format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{info}", info.len())
        } else if path == "/datasets/org/tiny/resolve/main/data/train.jsonl" {
            let part = if range.as_deref() == Some("bytes=0-0") { &body[..1] } else { &body[..] };
            let total = body.len();
            format!(
                "HTTP/1.1 206 Partial Content\r\n{close}x-repo-commit: c0ffee\r\netag: \"e1\"\r\nContent-Range: bytes 0-{}/{total}\r\nContent-Length: {}\r\n\r\n{part}",
                part.len() - 1,
                part.len()
            )
        } else {
            format!("HTTP/1.1 404 Not Found\r\n{close}Content-Length: 0\r\n\r\n")
        };
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// Path, range and whether the token is the right one.
fn request(stream: &TcpStream) -> (String, Option<String>, bool) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
    let (mut range, mut authorised) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_string()),
            "authorization" => authorised = value == "Bearer secret",
            _ => {}
        }
    }
    (path, range, authorised)
}

#[test]
fn a_data_set_comes_from_the_hub_that_the_environment_names() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("body.jsonl");
    write_text(&text);
    let body = std::fs::read_to_string(&text).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(listener, body));
    let from_hub = |name: &str, token: &str| {
        let mut command = monosem(dir.path());
        command.env("HF_ENDPOINT", &endpoint).env("HF_HOME", dir.path().join("hub")).env("HF_TOKEN", token);
        command.args(["corpus", "build", "--d-vocab", "280", "--dataset", name]);
        command
    };
    let said = stderr(&mut from_hub("org/tiny", "wrong"));
    assert!(said.contains("org/tiny") && said.contains("401") && said.contains("HF_TOKEN"), "{said}");
    let said = stderr(&mut from_hub("org/none", "secret"));
    assert!(said.contains("org/none") && said.contains("404"), "{said}");
    from_hub("org/tiny", "secret").assert().success();
    let from_file = tempfile::tempdir().unwrap();
    build_from(from_file.path(), &text).assert().success();
    let ids = |dir: &Path| {
        let stream = TokenStream::open(&RunDir::new(dir, "r").tokens()).unwrap();
        let mut ids = vec![0; stream.len() as usize];
        stream.read(0, &mut ids);
        ids
    };
    assert_eq!(ids(dir.path()), ids(from_file.path()));
}
