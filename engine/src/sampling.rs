//! How the next token is chosen, and what form an answer can be held to.

use crate::protocol::{Form, Sampling};
use crate::template::python_json;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use serde_json::json;

/// Over how many of the last tokens repetitions are counted.
const PENALTY_TOKENS: i32 = 64;

/// JSON in llama.cpp's grammar notation. White space is bounded, so that a model cannot go on with it for ever.
const JSON_RULES: &str = r#"
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;

/// The grammar that holds an answer to its form; `None` where it has none.
pub fn grammar(form: &Form) -> Option<String> {
    match form {
        Form::Free => None,
        Form::JsonObject => Some(format!("root ::= object\n{JSON_RULES}")),
        Form::Call(names) => {
            // A name as JSON has it, as a literal of the grammar.
            let names: Vec<String> = names.iter().map(|name| python_json(&json!(python_json(&json!(name))))).collect();
            let name = names.join(" | ");
            Some(format!(
                "root ::= \"{{\\\"name\\\": \" ({name}) \", \\\"arguments\\\": \" object \"}}\"\n{JSON_RULES}"
            ))
        }
    }
}

/// Chooses the tokens of one answer.
pub struct Chooser {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Chooser {
    /// Chooses as the request says; `None` where the model cannot follow the grammar.
    pub fn new(model: &LlamaModel, sampling: &Sampling, grammar: Option<&str>) -> Option<Self> {
        let grammar = match grammar {
            Some(rules) => Some(LlamaSampler::grammar(model, rules, "root").ok()?),
            None => None,
        };
        let vocabulary = model.n_vocab();
        let mut chain = Vec::new();
        if !sampling.logit_bias.is_empty() {
            let biases: Vec<LlamaLogitBias> = sampling
                .logit_bias
                .iter()
                .filter(|(token, _)| (0..vocabulary).contains(token))
                .map(|&(token, bias)| LlamaLogitBias::new(LlamaToken::new(token), bias))
                .collect();
            chain.push(LlamaSampler::logit_bias(vocabulary, &biases));
        }
        let Sampling { repeat_penalty, frequency_penalty, presence_penalty, .. } = *sampling;
        if repeat_penalty != 1.0 || frequency_penalty != 0.0 || presence_penalty != 0.0 {
            chain.push(LlamaSampler::penalties(
                vocabulary,
                PENALTY_TOKENS,
                repeat_penalty,
                frequency_penalty,
                presence_penalty,
            ));
        }
        if sampling.temperature == 0.0 {
            chain.push(LlamaSampler::greedy());
        } else {
            if sampling.top_k > 0 {
                chain.push(LlamaSampler::top_k(sampling.top_k));
            }
            chain.push(LlamaSampler::top_p(sampling.top_p, 1));
            chain.push(LlamaSampler::min_p(sampling.min_p, 1));
            chain.push(LlamaSampler::temp(sampling.temperature));
            chain.push(LlamaSampler::dist(sampling.seed.unwrap_or(u32::MAX)));
        }
        Some(Self { chain: LlamaSampler::chain(chain, true), grammar })
    }

    /// Chooses the token that follows the batch's token at `index`; `None` where the grammar allows none.
    pub fn choose(&mut self, context: &LlamaContext<'_>, index: i32) -> Option<LlamaToken> {
        let Some(grammar) = &mut self.grammar else { return Some(self.chain.sample(context, index)) };
        // Asking the grammar about one token costs little, about all of them much: mostly the first choice is right.
        let mut candidates = context.token_data_array_ith(index);
        candidates.apply_sampler(&mut self.chain);
        let mut token = candidates.selected_token().filter(|token| allowed(grammar, *token));
        if token.is_none() {
            let mut candidates = context.token_data_array_ith(index);
            candidates.apply_sampler(grammar);
            candidates.data.retain(|candidate| candidate.logit() > f32::NEG_INFINITY);
            if candidates.data.is_empty() {
                return None;
            }
            candidates.apply_sampler(&mut self.chain);
            token = candidates.selected_token();
        }
        let token = token?;
        self.chain.accept(token);
        // Only what it allows comes this far; anything else would end the process.
        grammar.accept(token);
        Some(token)
    }
}

fn allowed(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    one.apply_sampler(grammar);
    one.data.first().is_some_and(|candidate| candidate.logit() > f32::NEG_INFINITY)
}
