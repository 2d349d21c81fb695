"""Small modules that every package uses.

Importing any of them makes an expected error during later imports, such as a missing package, one line.
"""

from utils.startup import tell_errors_in_one_line

# A script imports the modules of its flags before it can call anything, and these import numpy and yaml.
tell_errors_in_one_line()
