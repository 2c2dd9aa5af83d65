from hdpo.api import LoadedRun as LoadedRun
from hdpo.api import compare as compare
from hdpo.api import evaluate as evaluate
from hdpo.api import load_run as load_run
from hdpo.api import scan as scan
from hdpo.api import train as train
from hdpo.errors import BadInput as BadInput
from hdpo.errors import Busy as Busy
from hdpo.errors import HdpoError as HdpoError
from hdpo.errors import Stopped as Stopped
from hdpo.records import Problem as Problem

__version__: str
SEMANTICS: int
