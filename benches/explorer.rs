//! The explorer under load: 16,384 latents with 40 contexts each, eight connections that ask without pause, on loopback. Seven search (in the box
//! of every page and in the list), list and read feature pages; the eighth types a text of 64 tokens, one letter at a time, on the laptop preset.
//! Before that, what somebody waits for once: the first answers, and with `--map` the map.
//!
//! `cargo bench --bench explorer -- [--json] [--seconds 60] [--latents 16384] [--contexts 40] [--map]`

mod peer;

use monosem::artifact::{RunDir, Silent, seed};
use monosem::corpus::{self, CorpusConfig, Source, TokenStream, Tokenizer};
use monosem::explorer::{Bound, Options};
use monosem::features::collect::{Collected, Correlated, Firing, Group, TokenMass};
use monosem::features::store::{self, GroupKind, Histogram, Meta, Row};
use monosem::features::text::StreamText;
use monosem::lm::{Lm, LmConfig};
use monosem::sae::{Origin, Sae, Select};
use rand::RngExt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KINDS: [&str; 5] = ["search box", "search in list", "list", "feature page", "live text"];
/// Milliseconds that the 99th percentile may take.
const GOALS: [f64; 5] = [50.0, 50.0, 60.0, 60.0, 150.0];
const CONNECTIONS: usize = 8;

fn main() {
    peer::knows(&["--json", "--seconds", "--latents", "--contexts", "--map"]);
    let (n_latents, n_contexts) = (peer::number("--latents", 16_384), peer::number("--contexts", 40));
    let length = Duration::from_secs(peer::number("--seconds", 60) as u64);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = RunDir::new(dir.path(), "bench");
    let words = make(&run, n_latents, n_contexts);
    let bytes = std::fs::metadata(run.features("main")).map_or(0, |m| m.len());
    let bound = Bound::new(&run, &Options::loopback()).expect("the run is whole");
    let address = bound.url().trim_start_matches("http://").trim_end_matches('/').to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || bound.run(async { drop(stopped.await) }).expect("the server runs"));
    // The model and the pages are in memory as for somebody who has looked around.
    let first = ["/", "/features", "/search?q=cap", "/live/result?text=x"].map(|path| (path, peer::seconds(|| _ = Client::new(&address).get(path))));
    let map = peer::has("--map").then(|| map(&address));
    // Each thread gets its share of the heap at its first answers; from then on memory must not grow.
    load(&address, &words, n_latents, Duration::from_secs(10));
    let before = resident_mib();
    let (times, errors) = load(&address, &words, n_latents, length);
    let after = resident_mib();
    drop(stop);
    server.join().expect("the server ends");

    let json = peer::has("--json");
    let mut out = serde_json::Map::new();
    for ((kind, goal), mut times) in KINDS.iter().zip(GOALS).zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN);
        let rate = times.len() as f64 / length.as_secs_f64();
        if !json {
            let verdict = if at(0.99) <= goal { "" } else { "  ABOVE THE GOAL" };
            println!("{kind:<14} p50 {:6.1} ms  p99 {:6.1} ms (goal {goal:.0})  max {:6.1} ms  {rate:6.1}/s{verdict}", at(0.5), at(0.99), at(1.0));
        }
        out.insert(kind.replace(' ', "_"), serde_json::json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "per_second": rate }));
    }
    out.insert("errors".into(), errors.into());
    out.insert("first_seconds".into(), first.iter().map(|(path, s)| (path.to_string(), (*s).into())).collect::<serde_json::Map<_, _>>().into());
    out.insert("map_seconds".into(), map.map(|m| m.0).into());
    out.insert("dictionary_bytes".into(), bytes.into());
    out.insert("resident_mib".into(), serde_json::json!([before, after]));
    if json {
        println!("{}", serde_json::Value::Object(out));
    } else {
        println!("{errors} errors; resident {before:.0} MiB before, {after:.0} MiB after; dictionary of {bytes} bytes");
        first.iter().for_each(|(path, s)| println!("first answer of {path} after {s:.2} s"));
        if let Some((made, [state, points, tip, find])) = map {
            println!("map made in {made:.1} s; then its state in {state:.3} s, points {points:.3}, a tip {tip:.3}, a search {find:.3}");
        }
    }
}

/// Seconds until the map is made, and of each question about it then.
fn map(address: &str) -> (f64, [f64; 4]) {
    let began = Instant::now();
    while !Client::new(address).text("/map/state").contains("ready") {
        std::thread::sleep(Duration::from_millis(300));
    }
    let made = began.elapsed().as_secs_f64();
    (made, ["/map/state", "/map/points", "/map/tip?id=7", "/map/find?q=the"].map(|path| peer::seconds(|| _ = Client::new(address).get(path))))
}

/// Asks for `length`; milliseconds of each answer by kind, and how many were no 200.
fn load(address: &str, words: &[String], n_latents: usize, length: Duration) -> ([Vec<f64>; KINDS.len()], usize) {
    let ended = AtomicBool::new(false);
    let results: Vec<(usize, Vec<(usize, f64)>)> = std::thread::scope(|scope| {
        let ended = &ended;
        let started: Vec<_> = (0..CONNECTIONS)
            .map(|i| scope.spawn(move || if i == 0 { typist(address, words, ended) } else { reader(address, words, n_latents, i as u64, ended) }))
            .collect();
        std::thread::sleep(length);
        ended.store(true, Ordering::Relaxed);
        started.into_iter().map(|thread| thread.join().expect("a client ends")).collect()
    });
    let mut times: [Vec<f64>; KINDS.len()] = Default::default();
    for (kind, ms) in results.iter().flat_map(|r| &r.1) {
        times[*kind].push(*ms);
    }
    (times, results.iter().map(|r| r.0).sum())
}

fn reader(address: &str, words: &[String], n_latents: usize, number: u64, ended: &AtomicBool) -> (usize, Vec<(usize, f64)>) {
    let mut rng = seed::rng(1, "bench/explorer/reader", number);
    let mut client = Client::new(address);
    while !ended.load(Ordering::Relaxed) {
        match rng.random_range(0..10) {
            0..5 => {
                // A word is typed letter by letter, from the third on, as the page asks.
                let word: Vec<char> = words[rng.random_range(0..words.len())].chars().collect();
                let (kind, path) = [(0, "/search"), (1, "/features/rows")][rng.random_range(0..2)];
                for n in 3.min(word.len())..=word.len() {
                    client.timed(kind, &format!("{path}?q={}", escaped(&word[..n].iter().collect::<String>())));
                }
            }
            5..7 => {
                let sort = ["number", "dense", "rare", "max", "wide", "mixed"][rng.random_range(0..6)];
                client.timed(2, &format!("/features?sort={sort}&flag=alive&page={}", rng.random_range(1..20)));
            }
            _ => client.timed(3, &format!("/features/{}", rng.random_range(0..n_latents))),
        }
    }
    (client.errors, client.times)
}

fn typist(address: &str, words: &[String], ended: &AtomicBool) -> (usize, Vec<(usize, f64)>) {
    let mut rng = seed::rng(1, "bench/explorer/typist", 0);
    let mut client = Client::new(address);
    while !ended.load(Ordering::Relaxed) {
        let text: Vec<String> = (0..50).map(|_| words[rng.random_range(0..words.len())].clone()).collect();
        let mut text = text.join(" ");
        // Some 64 tokens; then letter after letter.
        for letter in " and so on it went".chars() {
            text.push(letter);
            client.timed(4, &format!("/live/result?text={}", escaped(&text)));
        }
    }
    (client.errors, client.times)
}

fn escaped(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// One connection that is kept.
struct Client {
    address: String,
    stream: BufReader<TcpStream>,
    times: Vec<(usize, f64)>,
    errors: usize,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes the option");
        Client { address: address.into(), stream: BufReader::new(stream), times: vec![], errors: 0 }
    }

    fn timed(&mut self, kind: usize, path: &str) {
        let began = Instant::now();
        let status = self.get(path);
        self.times.push((kind, began.elapsed().as_secs_f64() * 1e3));
        if status != 200 {
            self.errors += 1;
        }
    }

    fn get(&mut self, path: &str) -> u16 {
        self.ask(path, &mut std::io::sink())
    }

    fn text(&mut self, path: &str) -> String {
        let mut body = vec![];
        self.ask(path, &mut body);
        String::from_utf8_lossy(&body).into_owned()
    }

    /// The status; the body goes to `to`.
    fn ask(&mut self, path: &str, to: &mut dyn Write) -> u16 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(request.as_bytes()).expect("the connection is kept");
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer has headers");
            let lower = line.to_ascii_lowercase();
            if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().expect("a length is a number");
            } else if lower.starts_with("http/1.1 ") {
                status = lower[9..12].parse().expect("a status is a number");
            } else if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut (&mut self.stream).take(length), to).expect("an answer has its body");
        status
    }
}

/// A run of the laptop preset's sizes, untrained, whose latents fire at random: what is timed does not depend on what they mean. Returns words of
/// its text.
fn make(run: &RunDir, n_latents: usize, n_contexts: usize) -> Vec<String> {
    let config = CorpusConfig { sources: vec![Source::Planted { generator_seed: 0, bytes: 8 << 20 }], d_vocab: 4096, ..CorpusConfig::default() };
    corpus::build(&config, run, &mut Silent).expect("the corpus is built");
    let stream = TokenStream::open(&run.tokens()).expect("the tokens are whole");
    let tokenizer = Tokenizer::load(&run.tokens().join("tokenizer.json")).expect("the tokenizer is whole");
    let lm_config = LmConfig { d_vocab: stream.d_vocab(), ..LmConfig::laptop() };
    Lm::init(&lm_config, 0).save(&run.lm(), Some(stream.end_of_text())).expect("the model is written");
    sae(run, lm_config.d_mlp, n_latents);
    dictionary(run, &stream, &tokenizer, [n_latents, n_contexts, lm_config.d_mlp]);
    let mut ids = vec![0; 20_000];
    stream.read(0, &mut ids);
    let text = String::from_utf8_lossy(&tokenizer.decode_bytes(&ids)).into_owned();
    text.split_whitespace().filter(|w| w.len() >= 3 && w.chars().all(char::is_alphabetic)).take(2000).map(String::from).collect()
}

fn sae(run: &RunDir, d_in: usize, d_sae: usize) {
    let mut rng = seed::rng(1, "bench/explorer/sae", 0);
    let mut rows = || -> Vec<f32> { (0..d_sae * d_in).map(|_| rng.random::<f32>() - 0.5).collect() };
    let (w_enc, mut w_dec) = (rows(), rows());
    for row in w_dec.chunks_mut(d_in) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    let sae = Sae {
        d_in,
        d_sae,
        select: Select::TopK { k: 32 },
        w_enc,
        b_enc: vec![0.0; d_sae],
        w_dec,
        b_dec: vec![0.0; d_in],
        apply_b_dec_to_input: true,
        transcoder: None,
    };
    let origin = Origin {
        model_name: "bench".into(),
        hook_name: "blocks.0.mlp.hook_post".into(),
        hook_name_out: None,
        context_size: 128,
        dataset: "planted".into(),
    };
    let sample: Vec<f32> = (0..8 * d_in).map(|i| (i % 7) as f32 * 0.1).collect();
    sae.save(&run.sae("main"), &origin, &sample).expect("the SAE is written");
}

fn dictionary(run: &RunDir, stream: &TokenStream, tokenizer: &Tokenizer, [n_latents, n_contexts, d_in]: [usize; 3]) {
    let mut rng = seed::rng(1, "bench/explorer/dictionary", 0);
    let mut unit = |_| {
        let mut firings = |n: usize| -> Vec<Firing> {
            let mut one = || {
                let (t, act) = (rng.random_range(200..stream.len() - 200), 0.5 + rng.random::<f32>());
                Firing { t, act, doc: stream.doc_of(t) as u32, around: vec![(-3, act / 2.0), (0, act)], ..Default::default() }
            };
            (0..n).map(|_| one()).collect()
        };
        let mut group = |kind, n| Group { kind, low: 0.5, high: 1.5, n_firings: 1000, share_mass: 0.1, firings: firings(n) };
        let (random, interval) = (n_contexts / 4, n_contexts / 4);
        let kinds = [(GroupKind::Random, random), (GroupKind::Interval, interval), (GroupKind::Top, n_contexts - random - interval)];
        let groups: Vec<Group> = kinds.map(|(kind, n)| group(kind, n)).to_vec();
        let mut token = [0];
        let top_tokens = groups[2].firings.iter().take(10).enumerate().map(|(i, f)| {
            stream.read(f.t, &mut token);
            TokenMass { token: token[0], n: 10 - i as u32, mass: (10 - i) as f64 }
        });
        let mut near = |n: usize| -> Vec<(u32, f32)> { (0..n).map(|i| (rng.random_range(0..n_latents as u32), 0.9 / (i + 1) as f32)).collect() };
        let (coactive, similar, along) = (near(10), near(10), near(5));
        let collected = Collected {
            coactive,
            correlated: along.iter().map(|&(unit, r)| Correlated { unit, pearson: r, cosine: r, sd: Some(0.02) }).collect(),
            neurons: (0..5).map(|i| (i * 7, 0.5, 0.5)).collect(),
            n_active: 1000 + rng.random_range(0..100_000),
            max_act: 1.0 + rng.random::<f32>(),
            mean_act: 0.8,
            histogram: Histogram { edges: (0..=12).map(|i| 0.01 * 1.5f32.powi(i)).collect(), counts: (0..12).map(|i| 1 + i * i).collect() },
            top_tokens: top_tokens.collect(),
            mass: 60.0,
            top_share: 0.2,
            effective_tokens: 1.0 + 9.0 * rng.random::<f64>(),
            tokens_exact: true,
            groups,
            ..Default::default()
        };
        let logits = |from: u32| (0..10).map(|i| ((from + 37 * i) % stream.d_vocab() as u32, 1.0 - 0.05 * i as f32)).collect::<Vec<_>>();
        let at = rng.random_range(0..4000);
        Row {
            collected,
            flags: vec![],
            polysemantic: 5.0 * rng.random::<f64>(),
            enc_dec_cosine: Some(0.5),
            logits_up: logits(at),
            logits_down: logits(at + 1),
            category: None,
            similar,
            alignment: (0..5).map(|i| (i * 5, 0.5, 0.1)).collect(),
        }
    };
    let rows: Vec<Row> = (0..n_latents).map(&mut unit).collect();
    let meta = Meta {
        name: "main".into(),
        hook: "blocks.0.mlp.hook_post".into(),
        n_units: n_latents as u32,
        d_in,
        n_ctx: 128,
        n_tokens: 1_000_000,
        tokens_from: "train".into(),
        n_before: 64,
        n_after: 16,
        tokens_hash: stream.manifest().hash(),
        ..Meta::default()
    };
    store::write(&run.features("main"), &meta, &rows, &[], &StreamText { stream, tokenizer }).expect("the dictionary is written");
}

/// Resident memory of this process now, MiB, where the system tells.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
