//! `monosem explore`

use super::Global;
use crate::artifact::RunDir;
use crate::explorer::{self, Options};
use crate::pipeline::{saes, saes_in_words};
use std::io::Write;
use std::net::IpAddr;

/// Serve the web page over a run: features, neurons, live text, steering
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the SAE [default: the one with a feature dictionary]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0, value_name = "N")]
    port: u16,
    /// Address to listen on; anything but loopback needs the token in the address that is printed
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Do not ask the desktop to open the page
    #[arg(long)]
    no_open: bool,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let run = RunDir::new(&global.dir, &global.run);
    // A browser is opened only where somebody sits: with a terminal, not for a program that reads JSON.
    let open = !args.no_open && !global.json && std::io::IsTerminal::is_terminal(&std::io::stdout());
    let options = Options { sae: args.sae, host: args.host, port: args.port, open, limits: Default::default() };
    if !args.host.is_loopback() {
        tell!(
            "note: {} is not loopback; whoever has the address with its token can read this run and change its labels, and the network carries both in the clear",
            args.host
        );
    }
    explorer::serve(&run, &options, |url| {
        let line = if global.json { serde_json::json!({ "url": url }).to_string() } else { url.to_string() };
        // Whoever reads stdout may have gone; the server is of use without.
        let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
        let known = saes(&run);
        let sae = options.sae.as_ref().or(known.first()).cloned().unwrap_or_default();
        let others =
            if known.iter().any(|name| *name != sae) { format!(" (--sae for another: {})", saes_in_words(&run, Some(&sae))) } else { String::new() };
        tell!("exploring the SAE {sae} of {}{others}; Ctrl-C ends", run.root.display());
    })?;
    Ok(())
}
