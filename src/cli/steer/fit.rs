//! `steer fit`: from examples to an edit.

use super::edits::SaveArgs;
use super::rig::Opened;
use super::{Drawing, Global};
use crate::artifact::{RunDir, grouped, seed};
use crate::cli::features::print;
use crate::cli::{Interrupted, Terminal, again, one_or_more};
use crate::corpus::{Fields, Split, is_text, read_file};
use crate::intervene::fit::{Fitted, Order};
use crate::intervene::saved::{RuleName, SavedEdit, SavedLatent};
use crate::pipeline;
use crate::pipeline::fit::{Documents, FitConfig, FitReport, Sample, fit};
use anyhow::{Context, bail};
use rand::seq::SliceRandom;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Find the features that make the model write like example texts, and save them as an edit
///
/// At least four documents or texts of each side are needed; a hundred let fifty be fitted on. A record of jsonl or Parquet is a document; a txt or md file is cut at every
/// <|endoftext|> and after 8,000 bytes at the next blank line; where that leaves a side with fewer than twice --docs documents, at every blank line.
///
/// Features are ranked on --docs documents of each side, drawn from all that were given, by contrast (they fire on positive texts and not on negative ones) and by
/// output (they promote what positive texts go on with). Sets of the best are held at their usual activation, times a strength, while pilot texts are written; the set
/// that a small classifier takes for positive most often, with the text whole, is the edit. The classifier is trained on the other documents. The table is of new texts.
///
/// Columns of a feature: F1 and log-odds of "it fires" as a detector of positive positions; mean diff., its mean activation there less that elsewhere, in multiples
/// of its maximum; output, what its maximum adds to the logits of what follows positive positions less those of what follows negative ones; attribution,
/// the same at its mean activation: what is lost to first order without it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct FitArgs {
    /// Texts to write like: txt, md, jsonl (each also .gz, .zst), parquet; may be given more than once
    #[arg(long, value_name = "FILE", required_unless_present = "positive_text")]
    positive: Vec<PathBuf>,
    /// A text to write like, itself; may be given more than once
    #[arg(long, value_name = "TEXT")]
    positive_text: Vec<String>,
    /// Texts to tell them from [default: training documents of the run]
    #[arg(long, value_name = "FILE")]
    negative: Vec<PathBuf>,
    /// A text to tell them from, itself; may be given more than once
    #[arg(long, value_name = "TEXT")]
    negative_text: Vec<String>,
    /// Documents of each side to fit on
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = one_or_more::<usize>)]
    docs: usize,
    /// JSONL field or Parquet column that holds the text
    #[arg(long, value_name = "FIELD", default_value = "text")]
    field: String,
    /// Rank by: both (mean difference and output), f1, log-odds, difference, output, attribution. The table is in this order, and sets of its best are tried, beside
    /// those by attribution
    #[arg(long, value_name = "ORDER", default_value = "both", value_parser = order)]
    sort: Order,
    /// Most features in the edit: the largest of 1, 2, 4, 8, 16 that this allows is tried
    #[arg(long, value_name = "N", default_value_t = FitConfig::default().most_features as u64, value_parser = clap::value_parser!(u64).range(1..))]
    features: u64,
    /// Largest perplexity of the texts under the unedited model, as a multiple of the unedited texts'
    #[arg(long, value_name = "X", default_value_t = FitConfig::default().max_perplexity_ratio)]
    max_perplexity: f64,
    /// Texts that count, of each way
    #[arg(long, value_name = "N", default_value_t = FitConfig::default().texts, value_parser = one_or_more::<usize>)]
    texts: usize,
    /// Tokens of a text, at most
    #[arg(long, value_name = "N", default_value_t = FitConfig::default().tokens, value_parser = one_or_more::<usize>)]
    tokens: usize,
    #[command(flatten)]
    drawing: Drawing,
    /// Also fine-tune the model on the same positive documents, for the table (it is not kept; to keep one: monosem lm train --from)
    #[arg(long)]
    fine_tune: bool,
    #[command(flatten)]
    save: SaveArgs,
    /// Name of the SAE [default: main, or the only one of the run]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  monosem steer fit --positive western.txt --negative other.txt --save western
  monosem steer run --edit western --prompt 'The stranger'
  monosem steer fit --positive german.jsonl --negative english.jsonl --fine-tune";

/// Documents of a side that are read, and tokens of a document.
const MOST_DOCUMENTS: usize = 1_000;
const MOST_TOKENS: usize = 2_000;

pub(super) fn run(args: &FitArgs, global: &Global, dir: &RunDir) -> anyhow::Result<()> {
    let sampling = args.drawing.sampling()?;
    args.save.check(dir)?;
    let mut opened = Opened::open(dir, args.sae.as_deref())?;
    let given = |files: &[PathBuf], texts: &[String], side: u64| -> anyhow::Result<Vec<Vec<u32>>> {
        let mut documents = documents(&opened, files, texts, args)?;
        // In whatever order the files hold them: what is fitted on and what judges are of the same kinds.
        documents.shuffle(&mut seed::rng(args.drawing.seed, "steer/fit", side));
        Ok(documents)
    };
    let positive = given(&args.positive, &args.positive_text, 0)?;
    let of_run = args.negative.is_empty() && args.negative_text.is_empty();
    let negative = if of_run { self::of_run(&opened)? } else { given(&args.negative, &args.negative_text, 1)? };
    for (side, documents) in [("positive", &positive), ("negative", &negative)] {
        if documents.len() < 4 {
            bail!(
                "there are {} {side} documents of two tokens or more and at least 4 are needed: two to fit on, two for the classifier\n  give more files or texts; a record of \
                 jsonl is a document, a txt file is cut at every <|endoftext|> and at blank lines",
                documents.len()
            );
        }
    }
    let (fit_positive, other_positive) = positive.split_at(args.docs.min(positive.len() / 2));
    let (fit_negative, other_negative) = negative.split_at(args.docs.min(negative.len() / 2));
    tell!(
        "{} positive and {} negative documents to fit on, {} and {} others for the classifier",
        fit_positive.len(),
        fit_negative.len(),
        other_positive.len(),
        other_negative.len()
    );
    if fit_positive.len() < args.docs || fit_negative.len() < args.docs {
        tell!("note: a side has fewer than {} documents, so half of it is fitted on and half is the classifier's", 2 * args.docs);
    }
    let config = FitConfig {
        most_features: args.features as usize,
        texts: args.texts,
        tokens: args.tokens,
        sampling,
        max_perplexity_ratio: args.max_perplexity,
        order: args.sort,
        fine_tune: args.fine_tune,
    };
    let to_fit = Documents { positive: fit_positive.to_vec(), negative: fit_negative.to_vec() };
    let others = Documents { positive: other_positive.to_vec(), negative: other_negative.to_vec() };
    let report = match fit(opened.rig(), &to_fit, &others, &config, &mut Terminal::new()) {
        Err(pipeline::Error::Interrupted) => return Err(Interrupted { resume: again("") }.into()),
        done => done?,
    };
    report.cautions.iter().for_each(|caution| tell!("note: {caution}"));
    if args.save.name().is_some() {
        let edit = saved(&mut opened, &report, args)?;
        args.save.keep(dir, &edit, &mut opened)?;
    }
    let maxima = report.edit.iter().map(|e| Ok(opened.scale(e.0)?.max_act)).collect::<anyhow::Result<Vec<f32>>>()?;
    print(global, &report, |out| table(out, &report, &maxima))
}

/// The edit in multiples of maxima, as it is saved.
fn saved(opened: &mut Opened, report: &FitReport, args: &FitArgs) -> anyhow::Result<SavedEdit> {
    let one = |&(latent, act): &(u32, f32)| -> anyhow::Result<SavedLatent> {
        let max_act = opened.scale(latent)?.max_act;
        let unit = if max_act > 0.0 { None } else { Some(crate::intervene::saved::Unit::Act) };
        Ok(SavedLatent { unit, ..SavedLatent::new(latent, RuleName::Set, Some(if max_act > 0.0 { act / max_act } else { act })) })
    };
    let edits = report.edit.iter().map(one).collect::<anyhow::Result<_>>()?;
    let mut names: Vec<String> = args.positive.iter().map(|p| p.display().to_string()).collect();
    names.extend((!args.positive_text.is_empty()).then(|| format!("{} texts", args.positive_text.len())));
    let rates: Vec<String> = report.ways.iter().take(2).map(|way| format!("{} {:.1} %", way.name, 100.0 * way.hit_rate)).collect();
    let about = format!("fitted to {}; of {} texts taken for positive: {}", names.join(", "), report.n_texts, rates.join(", "));
    Ok(SavedEdit { about, ..SavedEdit::of(edits) })
}

fn order(text: &str) -> Result<Order, String> {
    Ok(match text {
        "both" => Order::Both,
        "f1" => Order::F1,
        "log-odds" => Order::LogOdds,
        "difference" => Order::Difference,
        "output" => Order::Output,
        "attribution" => Order::Attribution,
        other => return Err(format!("{other} is not both, f1, log-odds, difference, output or attribution")),
    })
}

/// Documents of files, and texts, as tokens. What is not read is said, and where text is cut at blank lines.
fn documents(opened: &Opened, paths: &[PathBuf], texts: &[String], args: &FitArgs) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut left_out = 0;
    let of_files = paths.iter().map(|path| records(path, &args.field, &mut left_out)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut all = texts.to_vec();
    let enough = 2 * args.docs;
    let few = texts.len() + of_files.iter().map(Vec::len).sum::<usize>() < enough;
    for (path, mut records) in paths.iter().zip(of_files) {
        if few && is_text(path) {
            let n = records.len();
            records = records.iter().flat_map(|text| paragraphs(text)).collect();
            if records.len() > n {
                let (name, paragraphs) = (path.display(), grouped(records.len() as u64));
                tell!("note: {name} gives {n} documents, and a side needs {enough}: it is cut at blank lines into {paragraphs}");
            }
        }
        left_out += records.len().saturating_sub(MOST_DOCUMENTS) as u64;
        records.truncate(MOST_DOCUMENTS);
        all.append(&mut records);
    }
    if left_out > 0 {
        tell!("note: {} documents after the first {} of a file are not read", grouped(left_out), grouped(MOST_DOCUMENTS as u64));
    }
    let mut documents: Vec<Vec<u32>> = all.iter().map(|text| opened.tokenizer.encode(text)).collect();
    let long = documents.iter().filter(|d| d.len() > MOST_TOKENS).count();
    if long > 0 {
        tell!("note: {} documents are longer than {} tokens; what comes after is not read", grouped(long as u64), grouped(MOST_TOKENS as u64));
    }
    documents.iter_mut().for_each(|d| d.truncate(MOST_TOKENS));
    documents.retain(|d| d.len() > 1);
    Ok(documents)
}

/// The texts of a file's first records; the others are counted in `left_out`.
fn records(path: &Path, field: &str, left_out: &mut u64) -> anyhow::Result<Vec<String>> {
    let (mut texts, mut wrong) = (Vec::new(), None);
    let label = path.display().to_string();
    if !path.is_file() {
        bail!("there is no file {label}");
    }
    read_file(path, &label, Fields { text: field, kind: "kind" }, &mut |document| {
        match document {
            Ok(document) if texts.len() < MOST_DOCUMENTS => texts.push(document.text),
            Ok(_) => *left_out += 1,
            Err(e) => drop(wrong.get_or_insert(e)),
        }
        Ok(())
    })
    .with_context(|| label.clone())?;
    if let Some(wrong) = wrong {
        bail!("{}, {}: {}\n  mend or leave out the record; --field says where the text is", wrong.file, wrong.place, wrong.what);
    }
    Ok(texts)
}

/// What lies between the blank lines of a text; a line of spaces alone is blank.
fn paragraphs(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        match (line.trim().is_empty(), parts.last_mut()) {
            (false, Some(part)) => part.push_str(line),
            _ => parts.push(String::new()),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Training documents of the run, evenly over it.
fn of_run(opened: &Opened) -> anyhow::Result<Vec<Vec<u32>>> {
    let stream = opened.stream()?;
    let docs: Vec<usize> = stream.docs(Split::Train).collect();
    let n = docs.len().min(MOST_DOCUMENTS / 4);
    let one = |i: usize| {
        let doc = docs[i * docs.len() / n];
        let (begin, end) = (stream.doc_start(doc), stream.doc_end(doc));
        let mut ids = vec![0; (end - begin).min(MOST_TOKENS as u64) as usize];
        stream.read(begin, &mut ids);
        ids.retain(|&id| id != stream.end_of_text());
        ids
    };
    Ok((0..n).map(one).filter(|d| d.len() > 1).collect())
}

/// `maxima`: the largest activation of each latent of the edit; 0 where none was seen.
fn table(out: &mut dyn Write, report: &FitReport, maxima: &[f32]) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>7} {:>6} {:>9} {:>10} {:>7} {:>11}   {:>6} {:>10}",
        "latent", "F1", "log-odds", "mean diff.", "output", "attribution", "F1", "mean diff."
    )?;
    writeln!(out, "{:>7} {:>46}   {:>17}", "", "on the documents fitted on", "on others")?;
    // The first ten, and whatever else is in the edit.
    let in_edit = |f: &Fitted| report.edit.iter().any(|e| e.0 == f.latent);
    for (_, (f, other)) in report.ranked.iter().zip(&report.held_out).enumerate().filter(|(i, (f, _))| *i < 10 || in_edit(f)) {
        let number = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.3}"));
        let other = other.as_ref().map_or(format!("{:>6} {:>10}", "-", "-"), |o| format!("{:>6.3} {:>10.3}", o.f1, o.mean_difference));
        writeln!(
            out,
            "{:>7} {:>6.3} {:>9.2} {:>10.3} {:>7} {:>11}   {other}",
            f.latent,
            f.f1,
            f.log_odds,
            f.mean_difference,
            number(f.output),
            number(f.attribution)
        )?;
    }
    let held = |(&(latent, act), &max): (&(u32, f32), &f32)| match max > 0.0 {
        true => format!("{latent} at {act:.3} ({:.2} times its maximum)", act / max),
        false => format!("{latent} at {act:.3}"),
    };
    let edit: Vec<String> = report.edit.iter().zip(maxima).map(held).collect();
    writeln!(out, "\nthe edit holds {}", edit.join(", "))?;
    writeln!(
        out,
        "the classifier is right on {:.1} % of pieces of other documents, both sides counting alike; of {} texts each it takes for positive:",
        100.0 * report.classifier_accuracy,
        grouped(report.n_texts as u64)
    )?;
    let base = report.ways.first().map_or(f64::NAN, |w| w.hit_rate);
    writeln!(out, "{:>12} {:>8} {:>7} {:>11} {:>10}", "", "hits", "times", "perplexity", "distinct-2")?;
    for way in &report.ways {
        let times = if base > 0.0 { format!("{:.1}x", way.hit_rate / base) } else { "-".into() };
        writeln!(out, "{:>12} {:>6.1} % {times:>7} {:>10.2}x {:>9.2}x", way.name, 100.0 * way.hit_rate, way.perplexity_ratio, way.distinct_2_ratio)?;
    }
    let Sample { seed, unedited, edited } = &report.sample;
    writeln!(out, "\nthe first text (seed {seed}) unedited: {unedited:?}\nwith the edit: {edited:?}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_text_is_cut_at_blank_lines_and_nowhere_else() {
        let cut = |text: &str| super::paragraphs(text);
        assert_eq!(cut("a\nb\n\nc\n \n\n\nd"), ["a\nb\n", "c\n", "d"]);
        assert_eq!(cut("\r\none\r\n\r\ntwo"), ["one\r\n", "two"]);
        assert!(cut("\n \n").is_empty());
    }
}
