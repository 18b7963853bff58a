//! Blind rating: features and neurons mixed in an order drawn from a seed, without number, name or label until they are rated. Reads
//! dictionaries; writes ratings beside the labels. The address of a page names a place in the order, never a unit.

use super::app::{App, Page, Problem};
use super::list::url_text;
use super::view::{self, EffectView, GroupView, UnitView, Units};
use crate::artifact::seed;
use crate::labels::ratings::{RUBRIC, Rating, median};
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Units of each kind in a session at most.
const MAX_EACH: u32 = 200;
const MAX_AUTHOR: usize = 80;

/// Which session: who rates, which order, how many of each kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    pub author: String,
    pub seed: u32,
    pub n: u32,
}

impl Default for Session {
    fn default() -> Self {
        Session { author: String::new(), seed: 1, n: 20 }
    }
}

impl Session {
    fn address(&self) -> String {
        format!("/rate?author={}&seed={}&n={}", url_text(&self.author), self.seed, self.n)
    }
}

/// What the form sends: the place of the unit in the order and the points.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RateForm {
    pub author: String,
    pub seed: u32,
    pub n: u32,
    pub place: usize,
    pub said: String,
    pub confidence: u8,
    pub activations: u8,
    pub logits: u8,
    pub specificity: u8,
}

#[derive(Debug, Serialize)]
pub struct RatePage {
    pub session: Session,
    pub questions: Vec<QuestionView>,
    /// What the last rating was of.
    pub revealed: Option<Revealed>,
    /// The unit to rate; none before a session and after its last.
    pub unit: Option<Blind>,
    pub done: usize,
    pub of: usize,
    pub report: Report,
}

#[derive(Debug, Serialize)]
pub struct QuestionView {
    pub key: &'static str,
    pub title: &'static str,
    pub help: &'static str,
    pub choices: Vec<u8>,
}

/// A unit without what it is.
#[derive(Debug, Serialize)]
pub struct Blind {
    pub place: usize,
    pub groups: Vec<GroupView>,
    pub raised: Vec<EffectView>,
    pub lowered: Vec<EffectView>,
}

#[derive(Debug, Serialize)]
pub struct Revealed {
    pub unit: UnitView,
    pub total: u8,
    pub said: String,
}

/// Medians by kind of unit.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub kinds: Vec<KindReport>,
    pub raters: Vec<String>,
    /// Where two raters rated the same unit of the same session: how many, and the mean difference of their totals.
    pub agreement: Option<(usize, f64)>,
}

#[derive(Debug, Serialize)]
pub struct KindReport {
    pub kind: &'static str,
    pub n: usize,
    pub median: f64,
    /// By question, in the rubric's order.
    pub medians: Vec<f64>,
    /// How many have each total, 0 to 14.
    pub totals: Vec<usize>,
    /// Above 8, which the paper counts as interpretable.
    pub above_8: usize,
}

impl KindReport {
    pub fn median_text(&self) -> String {
        half(self.median)
    }

    pub fn question_texts(&self) -> Vec<String> {
        self.medians.iter().map(|&m| half(m)).collect()
    }

    /// Bars of a view box 150 x 40.
    pub fn bars(&self) -> Vec<(usize, usize, usize, String)> {
        let most = self.totals.iter().copied().max().unwrap_or(1).max(1);
        let bar = |(total, &n): (usize, &usize)| (total * 10, 40 - 38 * n / most, 38 * n / most, format!("{n} with {total} points"));
        self.totals.iter().enumerate().map(bar).collect()
    }
}

fn half(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.1}") }
}

impl App {
    pub fn rate(&self, session: Session, last: Option<usize>) -> Page<RatePage> {
        check(&session)?;
        let order = self.order(&session)?;
        let rated = self.rated(&session)?;
        let next = (!session.author.is_empty()).then(|| (0..order.len()).find(|&i| !rated.contains_key(&order[i]))).flatten();
        let revealed = match last.and_then(|i| order.get(i)) {
            Some(unit) => self.revealed(*unit, rated.get(unit))?,
            None => None,
        };
        Ok(RatePage {
            questions: RUBRIC.iter().map(|q| QuestionView { key: q.key, title: q.title, help: q.help, choices: (0..=q.max).collect() }).collect(),
            revealed,
            unit: next.map(|place| self.blind(place, order[place])).transpose()?,
            done: order.iter().filter(|u| rated.contains_key(u)).count(),
            of: order.len(),
            report: self.rating_report()?,
            session,
        })
    }

    /// Keeps the rating of a place; says where to go on.
    pub fn set_rating(&self, form: &RateForm) -> Page<String> {
        let session = Session { author: form.author.trim().into(), seed: form.seed, n: form.n };
        check(&session)?;
        let order = self.order(&session)?;
        let &(units, latent) = order.get(form.place).ok_or_else(|| Problem::bad(&format!("The session has {} units.", order.len())))?;
        let dictionary = self.dictionary(units)?;
        let points = [form.confidence, form.activations, form.logits, form.specificity];
        let rating = Rating { session: form.seed, latent, author: session.author.clone(), said: form.said.clone(), points, time: String::new() };
        self.labels_to_write(units)?.rate(&dictionary.meta().weights_hash, &rating)?;
        Ok(format!("{}&last={}", session.address(), form.place))
    }

    /// The session's units: as many living ones of each kind, drawn and mixed by the seed. The same for every rater.
    fn order(&self, session: &Session) -> Page<Vec<(Units, u32)>> {
        let mut order: Vec<(Units, u32)> = vec![];
        for units in [Units::Features, Units::Neurons] {
            let dictionary = self.dictionary(units)?;
            let alive: Vec<u32> = self.summaries(units, &dictionary)?.iter().filter(|s| s.n_active > 0).map(|s| s.id).collect();
            let mut rng = seed::rng(u64::from(session.seed), "explorer/rate", units as u64);
            order.extend(alive.sample(&mut rng, session.n as usize).map(|&id| (units, id)));
        }
        order.shuffle(&mut seed::rng(u64::from(session.seed), "explorer/rate", 2));
        Ok(order)
    }

    /// What this rater has rated of the session.
    fn rated(&self, session: &Session) -> Page<HashMap<(Units, u32), Rating>> {
        let mut rated = HashMap::new();
        for (units, ratings) in self.all_ratings()? {
            let own = ratings.into_iter().filter(|r| r.session == session.seed && r.author == session.author);
            rated.extend(own.map(|r| ((units, r.latent), r)));
        }
        Ok(rated)
    }

    fn all_ratings(&self) -> Page<[(Units, Vec<Rating>); 2]> {
        let of = |units: Units| -> Page<(Units, Vec<Rating>)> {
            let dictionary = self.dictionary(units)?;
            let kept = self.labels(units)?.map(|l| l.ratings(&dictionary.meta().weights_hash)).transpose()?;
            Ok((units, kept.unwrap_or_default()))
        };
        Ok([of(Units::Features)?, of(Units::Neurons)?])
    }

    fn blind(&self, place: usize, (units, id): (Units, u32)) -> Page<Blind> {
        let dictionary = self.dictionary(units)?;
        let detail = dictionary.feature(id, &self.stream, &self.tokenizer)?;
        let mut groups = view::groups(&detail, "");
        groups.iter_mut().for_each(|g| g.parts.retain(|p| !p.contexts.is_empty()));
        let contexts = groups.iter_mut().flat_map(|g| &mut g.parts).flat_map(|p| &mut p.contexts);
        contexts.for_each(|c| c.in_shares_of(detail.summary.max_act));
        // Intervals of activation would tell a latent's scale from a neuron's.
        groups.iter_mut().flat_map(|g| &mut g.parts).for_each(|p| p.title.clear());
        Ok(Blind {
            place,
            groups,
            raised: view::effects(&detail.logits_up).into_iter().map(EffectView::without_value).collect(),
            lowered: view::effects(&detail.logits_down).into_iter().map(EffectView::without_value).collect(),
        })
    }

    fn revealed(&self, (units, id): (Units, u32), rating: Option<&Rating>) -> Page<Option<Revealed>> {
        let Some(rating) = rating else { return Ok(None) };
        let dictionary = self.dictionary(units)?;
        let labels = self.label_texts(units, dictionary.meta());
        let unit = self.unit_view(units, &dictionary.summary(id)?, &labels);
        Ok(Some(Revealed { unit, total: rating.total(), said: rating.said.clone() }))
    }

    fn rating_report(&self) -> Page<Report> {
        Ok(report(&self.all_ratings()?))
    }
}

fn check(session: &Session) -> Page<()> {
    if session.author.chars().count() > MAX_AUTHOR || session.author.chars().any(char::is_control) || !(1..=MAX_EACH).contains(&session.n) {
        return Err(Problem::bad(&format!("A session has a rater of at most {MAX_AUTHOR} characters and 1 to {MAX_EACH} units of each kind.")));
    }
    Ok(())
}

fn report(ratings: &[(Units, Vec<Rating>)]) -> Report {
    let kind = |(units, ratings): &(Units, Vec<Rating>)| {
        let median_of = |of: &dyn Fn(&Rating) -> u8| median(ratings.iter().map(of).collect());
        let mut totals = vec![0; 15];
        ratings.iter().for_each(|r| totals[usize::from(r.total()).min(14)] += 1);
        Some(KindReport {
            kind: units.title(),
            n: ratings.len(),
            median: median_of(&Rating::total)?,
            medians: (0..RUBRIC.len()).filter_map(|q| median_of(&|r| r.points[q])).collect(),
            above_8: ratings.iter().filter(|r| r.total() > 8).count(),
            totals,
        })
    };
    let raters: BTreeSet<String> = ratings.iter().flat_map(|(_, r)| r.iter().map(|r| r.author.clone())).collect();
    // Pairs of raters of one unit of one session.
    let mut by_unit: BTreeMap<(usize, u32, u32), Vec<u8>> = BTreeMap::new();
    for (units, ratings) in ratings {
        ratings.iter().for_each(|r| by_unit.entry((*units as usize, r.session, r.latent)).or_default().push(r.total()));
    }
    let pairs: Vec<f64> = by_unit
        .values()
        .flat_map(|totals| totals.iter().enumerate().flat_map(|(i, a)| totals[..i].iter().map(|b| f64::from(a.abs_diff(*b)))))
        .collect();
    let agreement = (!pairs.is_empty()).then(|| (pairs.len(), pairs.iter().sum::<f64>() / pairs.len() as f64));
    Report { kinds: ratings.iter().filter_map(kind).collect(), raters: raters.into_iter().collect(), agreement }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rating(latent: u32, author: &str, points: [u8; 4]) -> Rating {
        Rating { session: 1, latent, author: author.into(), said: String::new(), points, time: String::new() }
    }

    #[test]
    fn the_report_has_the_medians_of_each_kind_and_how_far_raters_differ() {
        let features = vec![rating(3, "ann", [3, 5, 3, 3]), rating(3, "ben", [3, 5, 1, 1]), rating(8, "ann", [2, 4, 2, 1])];
        let report = report(&[(Units::Features, features), (Units::Neurons, vec![rating(3, "ann", [0; 4])])]);
        let of = |i: usize| &report.kinds[i];
        assert_eq!((of(0).kind, of(0).n, of(0).median, of(0).above_8), ("Features", 3, 10.0, 3));
        assert_eq!((of(0).medians.as_slice(), of(1).median, of(1).totals[0]), (&[3.0, 5.0, 2.0, 1.0][..], 0.0, 1));
        assert_eq!((report.raters, report.agreement), (vec!["ann".to_string(), "ben".into()], Some((1, 4.0))));
        assert_eq!((half(12.0), half(11.5)), ("12".into(), "11.5".into()));
    }

    #[test]
    fn a_session_without_units_or_with_too_many_is_refused() {
        let session = |n, author: &str| Session { n, author: author.into(), seed: 0 };
        assert!(check(&session(1, "ann")).is_ok() && check(&session(0, "ann")).is_err() && check(&session(201, "ann")).is_err());
        assert!(check(&session(1, &"x".repeat(81))).is_err());
    }
}
