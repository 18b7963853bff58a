//! The recipes that come with the program can be read, and say what their names say.

use monosem::pipeline::Recipe;
use monosem::sae;
use std::path::Path;

#[test]
fn every_recipe_of_the_folder_is_read() {
    let mut n = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes")).unwrap() {
        let path = entry.unwrap().path();
        let recipe = Recipe::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(Recipe::parse(&recipe.to_toml()).unwrap(), recipe, "{}", path.display());
        n += 1;
    }
    assert!(n >= 4, "{n} recipes");
}

fn read(name: &str) -> Recipe {
    Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)).unwrap()
}

#[test]
fn the_quickstart_and_tiny_recipes_are_what_the_quickstart_command_does() {
    assert_eq!(read("quickstart.toml"), Recipe::quickstart(0));
    assert_eq!(read("tiny.toml"), Recipe::tiny(0));
}

#[test]
fn the_recipe_of_2023_resamples_by_the_papers_schedule_and_does_not_clip() {
    let train = read("bricken-a1.toml").sae.train;
    assert!(matches!(train.sae.recipe, sae::Recipe::Relu2023(..)));
    assert_eq!((train.sae.d_in, train.sae.d_sae, train.clip), (512, 4096, None));
    assert_eq!(train.resample.unwrap().at, [0.025, 0.05, 0.075, 0.1]);
}
