"""Tables for the terminal and for Markdown. A header is a list of (title, "<" or ">")."""


def text_table(header, rows):
    widths = [max(len(title), *(len(row[column]) for row in rows)) for column, (title, _) in enumerate(header)]
    lines = []
    for row in ([title for title, _ in header], *rows):
        lines.append("  ".join(f"{cell:{side}{width}}" for cell, (_, side), width in zip(row, header, widths)).rstrip())
    return lines


def markdown_table(header, rows):
    lines = ["| " + " | ".join(title for title, _ in header) + " |",
             "|" + "|".join("---" if side == "<" else "--:" for _, side in header) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
