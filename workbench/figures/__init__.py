"""Pure functions `DataFrame → plotly Figure`, one file a theme. No Streamlit, no arithmetic that a page could see."""
