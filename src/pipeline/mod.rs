//! The whole path: recipes, stages that are skipped while fresh, the quickstart, the report. Knows every stage, computes nothing itself.

pub mod plot;
