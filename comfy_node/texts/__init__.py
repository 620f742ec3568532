"""What a person reads: sentences with their translations, and errors that carry them."""

from .errors import SHOWN_MODULE, WorkerError
from .sentences import LANGUAGES, Sentence, printable, say, translated
