//! The assistant that the options name.

use super::config::{AssistantChoice, ServeOptions, openai_key};
use crate::assistant::Assistant;
use crate::assistant::auto::Auto;
use crate::assistant::discover::{Discover, DiscoverOptions};
use crate::assistant::embedded::catalogue::{self, CatalogueModel};
use crate::assistant::embedded::{Embedded, EmbeddedModel, EmbeddedOptions};
use crate::assistant::openai::{OpenAi, OpenAiOptions, Secret};
use crate::assistant::scripted::Scripted;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The engine's program, beside ours.
const ENGINE: &str = "verbatim-engine";

/// Makes the assistant that the options name.
///
/// # Errors
/// One sentence for the person who starts the server.
pub(super) fn named_by(options: &ServeOptions) -> Result<Arc<dyn Assistant>, String> {
    let named = options.model.as_deref().and_then(catalogue::find);
    match (options.assistant, &options.openai_url) {
        (AssistantChoice::Scripted, _) => Ok(Arc::new(Scripted)),
        (AssistantChoice::Embedded, _) => Ok(Arc::new(embedded(options, named)?)),
        (AssistantChoice::Openai, None) => {
            Err("--assistant openai needs the address of an endpoint: --openai-url http://HOST:PORT/v1.".into())
        }
        (AssistantChoice::Auto, Some(_)) if options.model_file.is_some() => {
            Err("--openai-url and --model-file name two assistants. Leave one of them out.".into())
        }
        (AssistantChoice::Auto | AssistantChoice::Openai, Some(url)) => Ok(Arc::new(openai(options, url)?)),
        // Who names a model of ours wants that one, whatever else runs on the machine.
        (AssistantChoice::Auto, None) if options.model_file.is_some() || named.is_some() => {
            Ok(Arc::new(embedded(options, named)?))
        }
        // And who names another is not to be answered by ours.
        (AssistantChoice::Auto, None) if options.model.is_some() => Ok(Arc::new(discover(options)?)),
        (AssistantChoice::Auto, None) => Ok(Arc::new(Auto::new(discover(options)?, embedded(options, None)?))),
    }
}

fn context_tokens(options: &ServeOptions) -> Option<usize> {
    options.context_tokens.map(|tokens| tokens as usize)
}

fn openai(options: &ServeOptions, url: &str) -> Result<OpenAi, String> {
    let endpoint = url.parse().map_err(|error| format!("--openai-url: {error}."))?;
    let openai = OpenAi::new(OpenAiOptions {
        key: openai_key()?.as_deref().and_then(Secret::new),
        model: options.model.clone(),
        context_tokens: context_tokens(options),
        ..OpenAiOptions::new(endpoint)
    });
    openai.map_err(|error| error.to_string())
}

fn discover(options: &ServeOptions) -> Result<Discover, String> {
    let discover = Discover::new(DiscoverOptions {
        ports: options.discover_ports.clone(),
        model: options.model.clone(),
        context_tokens: context_tokens(options),
        ..DiscoverOptions::default()
    });
    discover.map_err(|error| error.to_string())
}

/// The assistant inside Verbatim, with the file that the options name, else with this model or the default one.
fn embedded(options: &ServeOptions, named: Option<&CatalogueModel>) -> Result<Embedded, String> {
    let model = match &options.model_file {
        Some(file) if file.is_file() => EmbeddedModel::File(file.clone()),
        Some(file) => return Err(format!("--model-file: there is no file {}.", file.display())),
        None => {
            let model = match (named, &options.model) {
                (Some(named), _) => Some(named),
                (None, Some(unknown)) => return Err(unknown_model(unknown)),
                (None, None) => catalogue::all().first(),
            };
            let model = model.ok_or("This build knows no model of its own. Name a file with --model-file.")?;
            EmbeddedModel::Catalogue(models_dir(options), model.clone())
        }
    };
    let usual = EmbeddedOptions::new(engine(options), model);
    let minutes = u64::from(options.engine_idle_minutes);
    Ok(Embedded::new(EmbeddedOptions {
        context_tokens: context_tokens(options).unwrap_or(usual.context_tokens),
        idle: (minutes > 0).then(|| Duration::from_secs(minutes * 60)),
        ..usual
    }))
}

fn unknown_model(name: &str) -> String {
    let names: Vec<String> = catalogue::all().iter().map(|model| format!("{} ({})", model.name, model.model)).collect();
    format!(
        "--model: there is no model {name} inside Verbatim. There are: {}. Any GGUF file can be named with --model-file.",
        names.join(", ")
    )
}

/// Where fetched models are: the same folder for all clones of the repository, so that each is fetched once.
fn models_dir(options: &ServeOptions) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    options.models_dir.clone().unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_default().join("verbatim").join("models")
    })
}

fn engine(options: &ServeOptions) -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(ENGINE));
    options.engine.clone().or_else(beside).unwrap_or_else(|| ENGINE.into())
}
