"""The studio's theme: one accent colour, system fonts (nothing is fetched from a network), room to read.

The colours of chips and notices are CSS variables in ``theme.css``; this passes the same ones to Gradio's components.
``page.js`` is what the frame does by itself: light, dark or system colours, kept in the browser.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
HERE = Path(__file__).parent
SHEETS = [
    HERE / "theme.css",
    *(s for d in ("components", "pages") for s in sorted((HERE / d).rglob("*.css"))),
]
STYLE = "".join(sheet.read_text(encoding="utf-8") for sheet in SHEETS)

SCRIPT = (HERE / "page.js").read_text(encoding="utf-8")
HEAD = f'<meta name="color-scheme" content="light dark"><script>{SCRIPT}</script>'

ACCENT = gr.themes.Color(
    c50="#eef7f8", c100="#d8edef", c200="#b3dbdf", c300="#82c2c8", c400="#4aa3ab", c500="#22858f",
    c600="#0b6670", c700="#0a555d", c800="#0b454c", c900="#0b393f", c950="#052327", name="studio",
)  # fmt: skip
# what is the same in the light and in the dark theme, as the variables change
SAME = {
    "body_background_fill": "var(--ground)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--ink-soft)",
    "background_fill_primary": "var(--paper)",
    "background_fill_secondary": "var(--ground)",
    "block_background_fill": "var(--paper)",
    "block_border_color": "var(--line)",
    "block_label_text_color": "var(--ink-soft)",
    "block_title_text_color": "var(--ink)",
    "block_info_text_color": "var(--ink-soft)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "color_accent_soft": "var(--accent-wash)",
    "input_border_color": "var(--edge)",
    "input_border_color_focus": "var(--accent)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_text_color": "var(--on-accent)",
    "button_secondary_background_fill": "var(--paper)",
    "button_secondary_background_fill_hover": "var(--raised)",
    "button_secondary_text_color": "var(--ink)",
    "button_border_width": "1px",
    "button_secondary_border_color": "var(--edge)",
    "button_cancel_text_color": "var(--down)",
    "slider_color": "var(--accent)",
    "input_border_width": "1px",
    "block_shadow": "none",
}
OTHER = {
    "block_title_text_weight": "550",
    "color_accent": "var(--accent)",
    "input_background_fill": "var(--paper)",
    "input_background_fill_dark": "var(--ground)",
    "button_primary_background_fill_hover": "color-mix(in oklab, var(--accent) 88%, black)",
    "button_primary_background_fill_hover_dark": "color-mix(in oklab, var(--accent) 88%, white)",
    "button_large_radius": "10px",
    "button_medium_radius": "10px",
    "button_small_radius": "8px",
    "block_radius": "12px",
    "container_radius": "12px",
    "shadow_drop": "none",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
}


def theme() -> gr.themes.Base:
    base = gr.themes.Base(
        primary_hue=ACCENT,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=SANS,
        font_mono=MONO,
    )
    return base.set(**SAME, **{f"{name}_dark": value for name, value in SAME.items()}, **OTHER)
