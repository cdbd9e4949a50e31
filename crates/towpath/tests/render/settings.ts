// Written by `tow config render --format ts`: change `tow.toml` instead.

export interface Settings {
  /** number */
  readonly CREDITS: number;
  /** url */
  readonly DSN?: string;
  /** one of info, say "hi" */
  readonly LEVEL: "info" | "say \"hi\"";
  /** largest upload * / of all (size), in bytes */
  readonly MAX_FILE_SIZE: number;
  /** list */
  readonly ORIGINS: readonly string[];
  /** url */
  readonly PUBLIC_URL: string;
  /** duration, in milliseconds */
  readonly WAIT: number;
  /** integer */
  readonly WORKERS: number;
  /** string */
  readonly class: string;
  /** boolean */
  readonly type: boolean;
}

type Source = { readonly [name: string]: string | undefined };

const UNITS: { readonly [unit: string]: number } = {
  ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000,
  B: 1, KB: 1000, KiB: 1024, MB: 1000000, MiB: 1048576, GB: 1000000000, GiB: 1073741824,
};

const plain = (text: string): string | undefined => text;
const items = (text: string): readonly string[] => (text === "" ? [] : text.split(","));
const integer = (text: string): number | undefined =>
  /^-?[0-9]+$/.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : undefined;
const number = (text: string): number | undefined =>
  text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : undefined;
const flag = (text: string): boolean | undefined =>
  text === "true" ? true : text === "false" ? false : undefined;
const url = (text: string): string | undefined => (text.includes("://") ? text : undefined);
const oneOf = (words: readonly string[]) => (text: string): string | undefined =>
  words.includes(text) ? text : undefined;
const amount = (units: string) => (text: string): number | undefined => {
  const [, count, unit] = /^([0-9]+) *([A-Za-z]*)$/.exec(text) ?? [];
  if (count === undefined) return undefined;
  if (Number(count) === 0 && unit === "") return 0;
  return units.split(" ").includes(unit ?? "") ? Number(count) * (UNITS[unit ?? ""] ?? NaN) : undefined;
};
const duration = amount("ms s m h d");
const size = amount("B KB KiB MB MiB GB GiB");

/** Reads every value; says everything that is missing or wrong at once, by name. */
export function settings(source: Source): Settings {
  const wrong: string[] = [];
  const read = (name: string, always: boolean, parse: (text: string) => unknown): unknown => {
    const text = source[name];
    if (text === undefined) {
      if (always) wrong.push(`${name} is missing`);
      return undefined;
    }
    const value = parse(text);
    if (value === undefined) wrong.push(`${name} is of the wrong form`);
    return value;
  };
  const found = {
    CREDITS: read("CREDITS", true, number),
    DSN: read("DSN", false, url),
    LEVEL: read("LEVEL", true, oneOf(["info", "say \"hi\""])),
    MAX_FILE_SIZE: read("MAX_FILE_SIZE", true, size),
    ORIGINS: read("ORIGINS", true, items),
    PUBLIC_URL: read("PUBLIC_URL", true, url),
    WAIT: read("WAIT", true, duration),
    WORKERS: read("WORKERS", true, integer),
    class: read("class", true, plain),
    type: read("type", true, flag),
  };
  if (wrong.length > 0) throw new Error(wrong.join("; "));
  return found as unknown as Settings;
}
