//! Letters as Python knows them: white space, and the case of words. Invariant: pure functions of the text.

/// What Python calls white space.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub(super) fn has_case(text: &str) -> bool {
    text.chars().any(|c| c.is_lowercase() || c.is_uppercase())
}

pub(super) fn swap_case(c: char) -> Vec<char> {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

/// `str.capitalize`: a capital, and all behind it small.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut made = String::new();
    push_title(&mut made, first);
    made + &chars.as_str().to_lowercase()
}

/// The capital that begins a word: of letters that are two in one, only the first.
fn push_title(text: &mut String, c: char) {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => text.push('ǅ'),
        'Ǉ' | 'ǈ' | 'ǉ' => text.push('ǈ'),
        'Ǌ' | 'ǋ' | 'ǌ' => text.push('ǋ'),
        'Ǳ' | 'ǲ' | 'ǳ' => text.push('ǲ'),
        'ß' => text.push_str("Ss"),
        c => text.extend(c.to_uppercase()),
    }
}

/// `str.title`: a letter behind a letter is small, any other is a capital.
pub(super) fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => titled.extend(c.to_lowercase()),
            false => push_title(&mut titled, c),
        }
        in_word = c.is_alphabetic();
    }
    titled
}
