//! A figure of an experiment beside what was published and what is accepted.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// One number of an experiment. Written with whether it `holds`, where something is asserted.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is a figure of: an SAE, a model, a generator.
    pub of: String,
    /// A name of a metric, or words.
    pub what: String,
    /// Mean over seeds.
    pub ours: f64,
    /// Standard deviation over seeds, where there are several.
    pub sd: Option<f64>,
    /// What was published, or follows in closed form.
    pub published: Option<f64>,
    /// Lowest and highest value that `--check` accepts.
    pub band: Option<(f64, f64)>,
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("of", &self.of)?;
        map.serialize_entry("what", &self.what)?;
        map.serialize_entry("ours", &self.ours)?;
        self.sd.map_or(Ok(()), |sd| map.serialize_entry("sd", &sd))?;
        self.published.map_or(Ok(()), |published| map.serialize_entry("published", &published))?;
        self.band.map_or(Ok(()), |band| map.serialize_entry("band", &band))?;
        self.holds().map_or(Ok(()), |holds| map.serialize_entry("holds", &holds))?;
        map.end()
    }
}

impl Figure {
    /// From one value for each seed.
    pub fn new(of: &str, what: &str, values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let ours = values.iter().sum::<f64>() / n;
        let sd = (values.len() > 1).then(|| (values.iter().map(|v| (v - ours).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
        Figure { of: of.into(), what: what.into(), ours, sd, published: None, band: None }
    }

    pub fn published(self, value: f64) -> Self {
        Figure { published: Some(value), ..self }
    }

    pub fn within(self, low: f64, high: f64) -> Self {
        Figure { band: Some((low, high)), ..self }
    }

    pub fn at_least(self, low: f64) -> Self {
        self.within(low, f64::INFINITY)
    }

    pub fn at_most(self, high: f64) -> Self {
        self.within(f64::NEG_INFINITY, high)
    }

    /// Whether it lies in its band; `None` where nothing is asserted.
    pub fn holds(&self) -> Option<bool> {
        self.band.map(|(low, high)| (low..=high).contains(&self.ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_seeds_have_their_deviation_and_hold_inside_their_band() {
        let figure = Figure::new("x", "f1", &[0.5, 0.6, 0.7]).within(0.55, 0.65);
        assert!((figure.ours - 0.6).abs() < 1e-12 && (figure.sd.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(figure.holds(), Some(true));
        let json = serde_json::to_value(&figure).unwrap();
        assert!(json["holds"] == true && json["band"][0] == 0.55 && json.get("published").is_none(), "{json}");
        assert_eq!(figure.clone().within(0.61, 1.0).holds(), Some(false));
        assert_eq!((Figure::new("x", "f1", &[0.5]).sd, Figure::new("x", "f1", &[f64::NAN]).within(0.0, 1.0).holds()), (None, Some(false)));
    }
}
