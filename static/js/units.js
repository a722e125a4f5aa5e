/** Lengths, sizes, days and titles, as people write them. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** "1:02:03" */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How long something will take: "less than a minute", "3 min", "1 h 20 min". */
export function span(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest ? ` ${rest} min` : ""}`;
}

/** "12.3 MB"; with `like`, in the unit that fits that size and without its name. */
export function size(bytes, like = null) {
  const step = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, like ?? bytes)) / 3));
  const value = bytes / 1000 ** step;
  const text = step === 0 || value >= 100 ? String(Math.round(value)) : value.toFixed(1);
  return like === null ? `${text} ${UNITS[step]}` : text;
}

/** "today", "yesterday", or the date. */
export function day(unixSeconds) {
  const at = new Date(unixSeconds * 1000);
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (at.getTime() >= midnight) return "today";
  if (at.getTime() >= midnight - 86_400_000) return "yesterday";
  return at.toLocaleDateString([], { dateStyle: "medium" });
}

export function percent(fraction) {
  return `${Math.floor(fraction * 100)} %`;
}

/** A file's name as a title: "big-film.mp4" is "big film". */
export function titleOfFile(name) {
  return name
    .replace(/\.(mp4|m4v|webm|m3u8|mov|mkv|avi|m?ts|m2ts|mpe?g|vob|mp3|m4a|ogg|opus|oga|flac|wav)$/i, "")
    .replace(/[-_]+/g, " ")
    .trim()
    .slice(0, 120);
}
