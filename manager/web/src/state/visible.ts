// Names come from anybody who can connect. Controls, direction marks and invisible characters are shown by name.
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/u;
const hiddenButLayout = /[^\P{Cc}\n\t]|[\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/u;

export interface Piece {
  text: string;
  hidden: boolean;
}

/** Splits a text into what can be shown as it is and what has to be named. `layout`: line breaks and tabs stay. */
export function pieces(text: string, layout = false): Piece[] {
  const pattern = layout ? hiddenButLayout : hidden;
  if (!pattern.test(text)) return [{ text, hidden: false }];
  const result: Piece[] = [];
  for (const char of text) {
    const isHidden = pattern.test(char);
    const last = result.at(-1);
    if (!isHidden && last && !last.hidden) last.text += char;
    else result.push({ text: isHidden ? nameOf(char) : char, hidden: isHidden });
  }
  return result;
}

export function visible(text: string): string {
  return pieces(text)
    .map((piece) => piece.text)
    .join("");
}

function nameOf(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  const known = { 9: "\\t", 10: "\\n", 13: "\\r" }[code];
  if (known) return known;
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}
