// Which runs are picked, as a text: arithmetic only, without editor, tested by itself and against Python's.

/** The numbers in a text, each once, as Pick Runs reads them; null for what is no number from 1 to count. */
export function picked(text, count) {
  const words = text.trim().split(/[\s,;]+/).filter((word) => word);
  if (words.length === 1 && words[0].toLowerCase() === "all") return Array.from({ length: count }, (_, i) => i + 1);
  const fits = (word) => /^\d{1,4}$/.test(word) && Number(word) >= 1 && Number(word) <= count;
  return words.every(fits) ? [...new Set(words.map(Number))] : null;
}

/** The text with a number more, or without it where it was there. What could not be read begins anew. */
export function toggled(text, number, count) {
  const before = picked(text, count) ?? [];
  const after = before.includes(number) ? before.filter((one) => one !== number) : [...before, number];
  return after.join(", ");
}
