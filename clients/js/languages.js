/** The languages that Whisper's multilingual models know, by their codes. */

/** @type {Readonly<Record<string, string>>} */
export const LANGUAGES = Object.freeze({
  af: "Afrikaans", am: "Amharic", ar: "Arabic", as: "Assamese", az: "Azerbaijani",
  ba: "Bashkir", be: "Belarusian", bg: "Bulgarian", bn: "Bengali", bo: "Tibetan",
  br: "Breton", bs: "Bosnian", ca: "Catalan", cs: "Czech", cy: "Welsh", da: "Danish",
  de: "German", el: "Greek", en: "English", es: "Spanish", et: "Estonian", eu: "Basque",
  fa: "Persian", fi: "Finnish", fo: "Faroese", fr: "French", gl: "Galician", gu: "Gujarati",
  ha: "Hausa", haw: "Hawaiian", he: "Hebrew", hi: "Hindi", hr: "Croatian",
  ht: "Haitian Creole", hu: "Hungarian", hy: "Armenian", id: "Indonesian", is: "Icelandic",
  it: "Italian", ja: "Japanese", jw: "Javanese", ka: "Georgian", kk: "Kazakh", km: "Khmer",
  kn: "Kannada", ko: "Korean", la: "Latin", lb: "Luxembourgish", ln: "Lingala", lo: "Lao",
  lt: "Lithuanian", lv: "Latvian", mg: "Malagasy", mi: "Maori", mk: "Macedonian",
  ml: "Malayalam", mn: "Mongolian", mr: "Marathi", ms: "Malay", mt: "Maltese", my: "Burmese",
  ne: "Nepali", nl: "Dutch", nn: "Norwegian Nynorsk", no: "Norwegian", oc: "Occitan",
  pa: "Punjabi", pl: "Polish", ps: "Pashto", pt: "Portuguese", ro: "Romanian", ru: "Russian",
  sa: "Sanskrit", sd: "Sindhi", si: "Sinhala", sk: "Slovak", sl: "Slovenian", sn: "Shona",
  so: "Somali", sq: "Albanian", sr: "Serbian", su: "Sundanese", sv: "Swedish", sw: "Swahili",
  ta: "Tamil", te: "Telugu", tg: "Tajik", th: "Thai", tk: "Turkmen", tl: "Tagalog",
  tr: "Turkish", tt: "Tatar", uk: "Ukrainian", ur: "Urdu", uz: "Uzbek", vi: "Vietnamese",
  yi: "Yiddish", yo: "Yoruba", zh: "Chinese",
});

/** Whisper's code where BCP 47 has another. */
const BCP_47 = /** @type {Record<string, string>} */ ({ jw: "jv" });

/** Returns the tag for `lang` attributes and `Intl`. @param {string} code */
export function languageTag(code) {
  return BCP_47[code] ?? code;
}

/** Other names of the same languages. */
const OTHER_NAMES = /** @type {Record<string, string>} */ ({
  nb: "no", iw: "he", in: "id", jv: "jw", fil: "tl", yue: "zh",
});

/** Returns Whisper's code for a BCP 47 tag (en-US: en); null if there is none. */
export function languageOf(/** @type {string} */ tag) {
  const primary = tag.split("-")[0].toLowerCase();
  const code = OTHER_NAMES[primary] ?? primary;
  return code in LANGUAGES ? code : null;
}

/** Returns a language's English name; the code itself when it is not known. @param {string} code */
export function languageName(code) {
  return LANGUAGES[code] ?? code;
}
