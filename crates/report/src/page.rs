//! One HTML page with sections of text, tables and charts.
//!
//! Invariant: it is complete in itself, and its own policy forbids it to load or run anything.

use crate::colours::COLOURS;
use crate::markup::escaped;
use crate::timeline::{Kind, Timeline};
use std::fmt::Write;

const LAYOUT: &str = "\
*{box-sizing:border-box}body{margin:0 auto;padding:1.2rem 1rem 3rem;max-width:62rem;background:var(--back);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 .6rem}\
h2{font-size:1.15rem;margin:2rem 0 .4rem}p{margin:.4rem 0}.lead{font-size:1.05rem}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:1rem 2rem}\
figure{margin:.6rem 0;min-width:0}.scroll{\
background:linear-gradient(90deg,var(--back) 30%,transparent) 0 0/2.5rem 100% no-repeat local,\
linear-gradient(270deg,var(--back) 30%,transparent) 100% 0/2.5rem 100% no-repeat local,\
linear-gradient(90deg,var(--edge),transparent) 0 0/.8rem 100% no-repeat scroll,\
linear-gradient(270deg,var(--edge),transparent) 100% 0/.8rem 100% no-repeat scroll}\
.charts figure{max-width:36rem}figure.wide svg{min-width:32rem}\
figcaption{color:var(--faint);font-size:.9rem}svg{width:100%;height:auto;display:block}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem .2rem 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
th:first-child,td:first-child{text-align:left}.facts td{text-align:left;white-space:normal}\
\
.facts td:first-child{color:var(--faint);white-space:nowrap;vertical-align:top}th{font-weight:600}\
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;font-size:.9rem;color:var(--faint)}\
.legend span::before{content:'';display:inline-block;width:.75em;height:.75em;margin-right:.4em;background:var(--key)}";

/// A page in the making.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// With a title, and what it all comes to.
    pub fn new(title: &str, lead: &str) -> Self {
        let (title, lead) = (escaped(title), escaped(lead));
        Page { body: format!("<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n"), title }
    }

    /// A heading.
    pub fn section(&mut self, heading: &str) {
        self.write(format_args!("<h2>{}</h2>\n", escaped(heading)));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.write(format_args!("<p>{}</p>\n", escaped(text)));
    }

    /// Names and what they stand for.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        self.body.push_str("<div class=\"scroll\"><table class=\"facts\">\n");
        for (name, value) in facts {
            self.write(format_args!("<tr><td>{}</td><td>{}</td></tr>\n", escaped(name), escaped(value)));
        }
        self.body.push_str("</table></div>\n");
    }

    /// A table of numbers; its first column is text.
    pub fn table(&mut self, head: &[String], rows: &[Vec<String>]) {
        self.body.push_str("<div class=\"scroll\"><table>\n<tr>");
        head.iter().for_each(|cell| self.write(format_args!("<th>{}</th>", escaped(cell))));
        self.body.push_str("</tr>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|cell| self.write(format_args!("<td>{}</td>", escaped(cell))));
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</table></div>\n");
    }

    /// Charts side by side where there is room, each with its caption. They come from this crate and are not escaped.
    pub fn charts(&mut self, charts: &[(&str, String)]) {
        self.body.push_str("<div class=\"charts\">\n");
        for (caption, svg) in charts {
            self.write(format_args!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escaped(caption)));
        }
        self.body.push_str("</div>\n");
    }

    /// The arena over time, over the whole width.
    pub fn timeline(&mut self, timeline: &Timeline, caption: &str) {
        self.body.push_str("<div class=\"legend\">");
        for kind in Kind::ALL {
            self.write(format_args!("<span style=\"--key:var(--{})\">{}</span>", kind.class(), kind.name()));
        }
        let svg = timeline.svg();
        self.write(format_args!(
            "</div>\n<figure class=\"wide\"><div class=\"scroll\">{svg}</div><figcaption>{}</figcaption></figure>\n",
            escaped(caption)
        ));
    }

    /// Keys for planned and measured.
    pub fn legend_of_pairs(&mut self) {
        self.body.push_str(
            "<div class=\"legend\"><span style=\"--key:var(--c3)\">predicted</span><span \
             style=\"--key:var(--c2)\">measured</span></div>\n",
        );
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let Page { title, body } = self;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<meta \
             http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>{COLOURS}{LAYOUT}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
        )
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_loads_nothing_and_escapes_everything() {
        let hostile = "</style><script src=http://x>alert(1)</script><img onerror='x'>\"";
        let mut page = Page::new(hostile, hostile);
        page.section(hostile);
        page.text(hostile);
        page.facts(&[(hostile.to_string(), hostile.to_string())]);
        page.table(&[hostile.to_string()], &[vec![hostile.to_string()]]);
        page.charts(&[(hostile, String::new())]);
        let html = page.finish();
        for part in ["<script", "<img", "</style><", "@import", "url("] {
            assert!(!html.replace("</style>\n</head>", "").contains(part), "{part}: {html}");
        }
        assert!(html.contains("default-src 'none'") && html.contains("width=device-width"));
        assert_eq!(html.matches("&lt;script").count(), 10);
    }
}
