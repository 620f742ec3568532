"""What a person reads: sentences, their Chinese, the errors that carry them, and who reads what."""

from .errors import SHOWN_MODULE, WorkerError
from .sentences import LANGUAGES, Sentence, say, shown, translated
